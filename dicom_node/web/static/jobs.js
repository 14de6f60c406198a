"use strict";
function showJob(job) {
  const box = make("div", "job");
  const head = make("div", "head");
  head.append(make("span", `state ${job.state}`, job.state), make("span", "id", job.id),
    make("span", "", job.pseudonym || ""), make("span", "id", time(job.created_at)));
  if (["failed", "done"].includes(job.state)) {
    const again = make("button", "", "Run again");
    again.onclick = () => send("POST", `/api/jobs/${job.id}/retry`);
    head.append(again);
  }
  box.append(head);
  if (job.headline) box.append(make("p", "headline", job.headline));
  if (job.sentence) box.append(make("p", "", job.sentence));
  if (!["failed", "done", "discarded"].includes(job.state)) {
    const bar = make("progress"); bar.max = 1; bar.value = job.progress;
    box.append(make("p", "", `${job.stage} (${Math.round(100 * job.progress)} %)`), bar);
  }
  if (job.pictures.length) {
    const pictures = make("div", "pictures");
    job.pictures.forEach((name) => {
      const link = make("a"); link.href = `/api/jobs/${job.id}/pictures/${name}`;
      const image = make("img"); image.src = link.href; image.alt = name.replaceAll("_", " ");
      link.append(image); pictures.append(link);
    });
    box.append(pictures);
  }
  job.deliveries.forEach((one) => box.append(make("p", "deliveries",
    `to ${one.peer}: ${one.state}, attempt ${one.attempts}${one.sentence ? ` - ${one.sentence}` : ""}`)));
  return box;
}

watch(["/api/jobs"], (jobs) => {
  if (jobs.length) document.getElementById("jobs").replaceChildren(...jobs.map(showJob));
});
