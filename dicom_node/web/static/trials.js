"use strict";
// How the trial of a study by the rules is shown; the pages Studies and Rules share it.
const trialCards = (trials) => trials.length ? trials.map((trial) => {
  const card = make("div", `trial ${trial.takes ? "takes" : ""}`);
  card.append(make("p", "head", `${trial.takes ? "✓" : "✗"} ${trial.name}: ${trial.takes ? "takes it." : "does not take it."}`));
  card.append(make("p", "", trial.reason));
  trial.lacking.forEach((need) => card.append(make("p", "state waiting_series", `It still needs the series ${need}.`)));
  trial.series.forEach((series) => {
    if (!series.findings.length) return;
    const list = make("ul");
    series.findings.forEach((one) => list.append(make("li", one.holds ? "holds" : "fails", `${one.holds ? "✓" : "✗"} ${one.sentence}`)));
    card.append(make("p", "series", series.title), list);
  });
  return card;
}) : [make("p", "empty", "There are no rules: nothing is taken.")];

async function trialOf(study) {
  const answer = await fetch(`/api/studies/${encodeURIComponent(study)}/trial`);
  const found = await answer.json();
  if (!answer.ok) return [make("p", "", typeof found.detail === "string" ? found.detail : "It cannot be tried.")];
  const cards = trialCards(found);
  if (found.length && !found.some((one) => one.takes)) cards.push(make("p", "state no_rule", "No rule takes it."));
  return cards;
}
const actorName = () => localStorage.getItem("actor") || "";
const keepActorName = (name) => localStorage.setItem("actor", name);
