// Sends each picture as soon as it is chosen, dropped, pasted or photographed, and shows its answer beside it.
// Without this file, the form's button sends them.
const form = document.querySelector("#upload");
const answers = document.querySelector("#answers");
const sent = new WeakMap(); // card -> file

const copy = (id) => document.querySelector(id).content.cloneNode(true);

function parse(html) {
  const template = document.createElement("template");
  template.innerHTML = html;
  return template.content;
}

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
answers.addEventListener("htmx:sendError", ({ detail }) => showFailure(detail.target, copy("#unreachable")));
// A refusal says why, unless a proxy has answered in the service's place.
answers.addEventListener("htmx:beforeSwap", (event) => {
  const { target, xhr } = event.detail;
  const answer = parse(xhr.response);
  if (xhr.status < 400 || answer.querySelector(".report")) return;
  event.preventDefault();
  showFailure(target, answer.firstElementChild?.matches("[role=alert]") ? answer : copy("#unreachable"));
});

// Of a picture, in its answer's place; of a report, within its form, which keeps what was written there.
function showFailure(target, failure) {
  if (target.matches(".answer")) return target.replaceChildren(failure);
  target.querySelector("[role=alert]")?.remove();
  target.querySelector("form").append(failure.querySelector("[role=alert]"));
}

answers.addEventListener("click", ({ target }) => {
  if (target.matches(".again")) send(target.closest(".card"));
});
