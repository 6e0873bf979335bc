// Makes the upload form pleasant: drop anywhere on it, see the picture at once. Without it the form works as well.
const form = document.querySelector("form.upload");
const drop = form.querySelector(".drop");
const input = form.querySelector("input[type=file]");
const preview = form.querySelector(".preview");

function showPreview() {
  URL.revokeObjectURL(preview.src);
  preview.hidden = input.files.length === 0;
  if (!preview.hidden) preview.src = URL.createObjectURL(input.files[0]);
}

input.addEventListener("change", showPreview);

drop.addEventListener("dragover", (event) => {
  event.preventDefault();
  drop.classList.add("over");
});
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  input.files = event.dataTransfer.files;
  showPreview();
});

form.addEventListener("submit", () => {
  const button = form.querySelector("button");
  button.textContent = "Classifying …";
  button.disabled = true;
});

// A page that comes back from the browser's history must not keep the disabled button.
window.addEventListener("pageshow", (event) => {
  if (event.persisted) window.location.reload();
});
