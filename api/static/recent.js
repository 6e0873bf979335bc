// Keeps, in this browser alone, which pictures it had classified lately, and shows them as links.
const KEY = "recent";
const MOST = 12;
const section = document.querySelector("#recent");
const list = section.querySelector("ul");

function load() {
  try {
    return JSON.parse(localStorage.getItem(KEY)) ?? [];
  } catch {
    return []; // the browser keeps nothing for this page, or somebody wrote something else there
  }
}

function save(pictures) {
  try {
    localStorage.setItem(KEY, JSON.stringify(pictures));
  } catch {
    // then they are shown until the page is left
  }
  show(pictures);
}

function remember(heading) {
  const picture = { url: heading.dataset.picture, label: heading.textContent };
  save([picture, ...load().filter(({ url }) => url !== picture.url)].slice(0, MOST));
}

function forget(gone) {
  save(load().filter(({ url }) => url !== gone));
}

function show(pictures) {
  list.replaceChildren(...pictures.map(makeItem));
  section.hidden = pictures.length === 0;
}

function makeItem({ url, label }) {
  const item = document.createElement("li");
  const link = item.appendChild(document.createElement("a"));
  const image = link.appendChild(document.createElement("img"));
  link.href = url;
  link.append(label);
  image.alt = "";
  image.loading = "lazy";
  image.onerror = () => forget(url); // the service keeps pictures for a while only
  image.src = url;
  return item;
}

section.querySelector("button").addEventListener("click", () => save([]));
show(load());
document.querySelectorAll("[data-picture]").forEach(remember);
document.addEventListener("htmx:afterSwap", ({ target }) => {
  target.querySelectorAll("[data-picture]").forEach(remember);
});
