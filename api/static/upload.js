// Sends each picture as soon as it is chosen, dropped, pasted or photographed, and shows its answer beside it.
// Without this file, the form's button sends them.
const form = document.querySelector("#upload");
const answers = document.querySelector("#answers");
const sent = new WeakMap(); // card -> file

const copy = (id) => document.querySelector(id).content.cloneNode(true);

function add(files) {
  const cards = [...files].map(makeCard);
  answers.prepend(...cards);
  cards.forEach(send);
}

function makeCard(file) {
  const card = copy("#card").firstElementChild;
  card.querySelector(".file").textContent = file.name;
  const picture = card.querySelector(".picture");
  picture.onload = () => URL.revokeObjectURL(picture.src);
  picture.onerror = () => picture.replaceWith(copy("#no-preview"));
  picture.src = URL.createObjectURL(file);
  sent.set(card, file);
  return card;
}

function send(card) {
  const [file, answer] = [sent.get(card), card.querySelector(".answer")];
  if (file.size > form.dataset.maxBytes) return answer.replaceChildren(copy("#too-large"));
  answer.replaceChildren(copy("#waiting"));
  htmx.ajax("POST", form.action, { source: card, target: answer, values: { file } });
}

function showProgress({ target, detail }) {
  const progress = target.querySelector("progress");
  if (!progress || !detail.lengthComputable) return;
  progress.value = detail.loaded / detail.total;
  if (detail.loaded < detail.total) return;
  progress.removeAttribute("value"); // how long the rest takes is not known
  progress.previousElementSibling.textContent = "Classifying …";
}

for (const input of form.querySelectorAll("input[type=file]")) {
  input.addEventListener("change", () => {
    add(input.files);
    input.value = ""; // so that the same file can be chosen again
  });
}

document.addEventListener("paste", (event) => add(event.clipboardData.files));

const hasFiles = (event) => event.dataTransfer.types.includes("Files");
document.addEventListener("dragover", (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  form.classList.add("over");
});
document.addEventListener("dragleave", (event) => event.relatedTarget || form.classList.remove("over"));
document.addEventListener("drop", (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  form.classList.remove("over");
  add(event.dataTransfer.files);
});

answers.addEventListener("htmx:xhr:progress", showProgress);
// Where the service is not reached, of a picture or of a report.
answers.addEventListener("htmx:sendError", ({ target }) => {
  const answer = target.querySelector(".answer");
  if (answer) return answer.replaceChildren(copy("#unreachable"));
  target.querySelector("[role=alert]")?.remove();
  target.append(copy("#unreachable").querySelector("[role=alert]"));
});
answers.addEventListener("click", ({ target }) => {
  if (target.matches(".again")) send(target.closest(".card"));
});
