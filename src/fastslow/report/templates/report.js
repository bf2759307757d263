"use strict";

// Whatever a model wrote enters the page as a text node: nothing here parses HTML.

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
  for (const panel of document.querySelectorAll(".panel")) {
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

// A link to a context opens it.
function openTarget() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const details = target?.querySelector(":scope > details");
  if (details) details.open = true;
}

function setUpRollouts() {
  const source = document.getElementById("rollout-data");
  if (!source) return;
  const data = JSON.parse(source.textContent);
  const form = document.getElementById("filters");
  const page = 20;
  let found = [];
  let shown = 0;

  const texts = data.rollouts.map((one) => {
    const asked = data.questions[one.question];
    return [asked.question, one.text, one.feedback].join("\n").toLowerCase();
  });
  const scores = {
    full: (score) => score === 1,
    part: (score) => score > 0 && score < 1,
    none: (score) => score === 0,
  };

  function fill(name, values, label = String) {
    const select = form.elements[name];
    select.append(new Option("any", ""));
    for (const value of values) select.append(new Option(label(value), value));
  }

  function distinct(key) {
    return [...new Set(data.rollouts.map((one) => one[key]))];
  }

  function matches(one, index) {
    const wanted = Object.fromEntries(new FormData(form));
    return (
      ["run", "phase", "step", "problem", "context"].every(
        (key) => wanted[key] === "" || String(one[key]) === wanted[key],
      ) &&
      (wanted.score === "" || scores[wanted.score](one.score)) &&
      texts[index].includes(wanted.text.toLowerCase())
    );
  }

  function card(one) {
    const asked = data.questions[one.question];
    const score = element("strong", "score", `score ${Number(one.score.toFixed(3))}`);
    const where = [data.runs[one.run], `${one.phase}, step ${one.step}`, one.problem];
    const head = element("header", "", ...where.map((text) => element("span", "", text)));
    const context = document.getElementById(`context-${one.run}-${one.context}`);
    const link = element(context ? "a" : "span", "", `context ${one.context.slice(0, 8)}`);
    if (context) link.href = `#${encodeURIComponent(context.id)}`;
    head.append(link, element("span", "", `${one.tokens} tokens${one.finished ? "" : ", cut off"}`));
    head.append(score);
    const question = element("details", "", element("summary", "", "Question and reference"));
    question.append(
      element("p", "text", asked.question),
      element("p", "role", "reference"),
      element("p", "text", asked.reference),
    );
    const made = element("article", "rollout", head, question);
    made.append(element("p", "role", "completion"), element("p", "text", one.text));
    if (one.feedback) {
      made.append(element("p", "role", "feedback"), element("p", "text", one.feedback));
    }
    return made;
  }

  function showMore() {
    const next = found.slice(shown, shown + page);
    document.getElementById("results").append(...next.map(card));
    shown += next.length;
    document.getElementById("count").textContent =
      `${found.length} of ${data.rollouts.length} rollouts match; ${shown} are shown.`;
    document.getElementById("more").hidden = shown === found.length;
  }

  function search() {
    found = data.rollouts.filter(matches);
    shown = 0;
    document.getElementById("results").replaceChildren();
    showMore();
  }

  fill("run", data.runs.keys(), (index) => data.runs[index]);
  fill("phase", distinct("phase"));
  fill("step", distinct("step").sort((a, b) => a - b));
  fill("problem", distinct("problem").sort());
  fill("context", distinct("context"), (digest) => digest.slice(0, 8));
  form.hidden = false;
  form.addEventListener("input", search);
  form.addEventListener("submit", (event) => event.preventDefault());
  document.getElementById("more").addEventListener("click", showMore);
  search();
}

setUpTheme();
setUpDownloads();
setUpRollouts();
openTarget();
window.addEventListener("hashchange", openTarget);
