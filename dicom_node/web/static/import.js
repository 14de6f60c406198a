"use strict";
const at = (id) => document.getElementById(id);
const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;
let request = null, isStopped = false;

// Send one file as the body of a request; the node is never told its name.
const sendFile = (path, file, progress) => new Promise((resolve, reject) => {
  request = new XMLHttpRequest();
  request.open("POST", path);
  request.setRequestHeader("Content-Type", "application/octet-stream");
  request.upload.onprogress = (event) => progress(event.loaded);
  request.onload = () => (request.status === 204 ? resolve() : reject(new Error(detail(request))));
  request.onerror = () => reject(new Error("The node does not answer."));
  request.onabort = () => reject(new Error("Stopped; nothing was imported."));
  request.send(file);
});
const detail = (answer) => { try { return JSON.parse(answer.responseText).detail; } catch { return `The node answered ${answer.status}.`; } };
async function post(path) {
  const answer = await fetch(path, { method: "POST" });
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.detail);
  return body;
}

async function sendAll(files) {
  if (!files.length || request) return;
  const total = files.reduce((sum, file) => sum + file.size, 0);
  let sent = 0;
  isStopped = false;
  at("problem").textContent = "";
  at("sending").hidden = false;
  const progress = (number, loaded) => {
    at("sending-text").textContent = `Sending file ${number} of ${files.length}, ${megabytes(sent + loaded)} of ${megabytes(total)}`;
    at("sending-bar").value = total ? (sent + loaded) / total : 1;
  };
  try {
    const { id } = await post("/api/imports");
    for (const [index, file] of files.entries()) {
      if (isStopped) throw new Error("Stopped; nothing was imported.");
      progress(index + 1, 0);
      await sendFile(`/api/imports/${id}/files`, file, (loaded) => progress(index + 1, loaded));
      sent += file.size;
    }
    await post(`/api/imports/${id}/start`);
  } catch (error) {
    at("problem").textContent = error.message;
  }
  request = null;
  at("sending").hidden = true;
  refresh(true);
}

// Files of a dropped folder come in portions of at most 100, until one is empty.
async function filesOf(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  const reader = entry.createReader(), found = [];
  for (;;) {
    const portion = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!portion.length) return found;
    for (const one of portion) found.push(...await filesOf(one));
  }
}

at("choose-files").onclick = () => at("files").click();
at("choose-folder").onclick = () => at("folder").click();
["files", "folder"].forEach((id) => { at(id).onchange = async () => { await sendAll([...at(id).files]); at(id).value = ""; }; });
at("cancel").onclick = () => { isStopped = true; if (request) request.abort(); };
at("drop").ondragover = (event) => { event.preventDefault(); at("drop").classList.add("over"); };
at("drop").ondragleave = () => at("drop").classList.remove("over");
at("drop").ondrop = async (event) => {
  event.preventDefault();
  at("drop").classList.remove("over");
  const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
  const files = [];
  for (const entry of entries) files.push(...await filesOf(entry));
  sendAll(files);
};
window.onbeforeunload = (event) => { if (request) event.preventDefault(); };

const WORDS = { RECEIVING: "being sent", WAITING: "waits", RUNNING: "being imported", DONE: "done", FAILED: "stopped" };
const CLASSES = { DONE: "done", FAILED: "failed" };
const importRow = (one) => {
  const counts = make("td"), files = make("td");
  one.counts.forEach((cause) => counts.append(make("p", cause.is_failure ? "note warn" : "note", `${cause.files} ${cause.words}`)));
  if (one.sentence) counts.append(make("p", "note warn", one.sentence));
  if (one.state === "RUNNING") {
    const bar = make("progress"); bar.max = Math.max(one.file_count, 1); bar.value = one.done_count;
    files.append(make("p", "note", `${one.done_count} of ${one.file_count}`), bar);
  } else files.textContent = one.file_count;
  const wrong = one.state === "DONE" && one.counts.some((cause) => cause.is_failure);
  return row([cell(time(one.created_at), "when"), cell(wrong ? "done, with problems" : WORDS[one.state], `state ${wrong ? "failed" : CLASSES[one.state] || "pending"}`),
    cell(megabytes(one.received_bytes)), files, counts]);
};
watch(["/api/imports"], (imports) => { fill("imports", imports.map(importRow), 5, "Nothing has been imported from this page yet."); });
