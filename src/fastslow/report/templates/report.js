"use strict";

// The page is whole without this script, which turns it over but never parses what a model wrote.

function element(tag, className, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

function setUpTheme() {
  const button = document.getElementById("theme");
  const themes = ["system", "light", "dark"];
  let current = 0;
  button.hidden = false;
  button.addEventListener("click", () => {
    current = (current + 1) % themes.length;
    document.documentElement.dataset.theme = themes[current];
    button.textContent = `Theme: ${themes[current]}`;
  });
}

function setUpDownloads() {
  for (const panel of document.querySelectorAll(".panel:has(svg)")) {
    const button = element("button", "download", "SVG");
    button.type = "button";
    button.setAttribute("aria-label", `Download ${panel.dataset.file}`);
    button.addEventListener("click", () => download(panel));
    panel.append(button);
  }
}

function download(panel) {
  const svg = panel.querySelector("svg").cloneNode(true);
  svg.setAttribute("color", "#000000"); // outside the page nothing else says what the ink is
  const text = new XMLSerializer().serializeToString(svg);
  const url = URL.createObjectURL(new Blob([text], { type: "image/svg+xml" }));
  const link = element("a");
  link.href = url;
  link.download = panel.dataset.file;
  link.click();
  URL.revokeObjectURL(url);
}

// The name after the "#" of the address. Anybody can write one that stands for nothing, as "%".
function fragment() {
  const name = location.hash.slice(1);
  try {
    return decodeURIComponent(name);
  } catch {
    return name;
  }
}

// A link to a context opens it.
function openTarget() {
  const target = document.getElementById(fragment());
  const details = target?.querySelector(":scope > details");
  if (details) details.open = true;
}

// All rollouts are in the page; the form hides those that nobody asked for.
function setUpRollouts() {
  const form = document.getElementById("filters");
  if (!form) return;
  const more = document.getElementById("more");
  const cards = [...document.querySelectorAll(".rollout")];
  const texts = cards.map((card) => card.textContent.toLowerCase());
  const page = 20;
  let shown = page;

  const scores = {
    full: (score) => score === 1,
    part: (score) => score > 0 && score < 1,
    none: (score) => score === 0,
    failed: (score) => Number.isNaN(score),
  };

  function fill(name, compare, label = String) {
    const values = [...new Set(cards.map((card) => card.dataset[name]))].sort(compare);
    const options = values.map((value) => new Option(label(value), value));
    form.elements[name].append(new Option("any", ""), ...options);
  }

  function matches(card, index) {
    const wanted = Object.fromEntries(new FormData(form));
    return (
      ["run", "phase", "step", "problem", "context"].every(
        (key) => wanted[key] === "" || card.dataset[key] === wanted[key],
      ) &&
      (wanted.score === "" || scores[wanted.score](Number(card.dataset.score))) &&
      texts[index].includes(wanted.text.toLowerCase())
    );
  }

  function show() {
    const found = cards.filter(matches);
    const visible = new Set(found.slice(0, shown));
    for (const card of cards) card.hidden = !visible.has(card);
    document.getElementById("count").textContent =
      `${found.length} of ${cards.length} rollouts match; ${visible.size} are shown.`;
    more.hidden = visible.size === found.length;
  }

  const inOrder = () => 0;
  fill("run", inOrder);
  fill("phase", inOrder);
  fill("step", (a, b) => a - b);
  fill("problem");
  fill("context", inOrder, (digest) => digest.slice(0, 8));
  form.hidden = false;
  form.addEventListener("input", () => {
    shown = page;
    show();
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  more.addEventListener("click", () => {
    shown += page;
    show();
  });
  show();
}

setUpTheme();
setUpDownloads();
setUpRollouts();
openTarget();
window.addEventListener("hashchange", openTarget);
