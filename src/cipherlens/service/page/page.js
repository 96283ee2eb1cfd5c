// The service's page. Whatever comes from the server is shown by textContent; the token lives in one variable.
"use strict";

const LOOK_MS = 2000; // between two looks at lists; jobs that run tell by themselves
const AGAIN_MS = 1500; // before a stream that broke is opened again
const MOST_JOBS = 30;
const MOST_SETS = 20;
const MOST_CLASSES = 12;
const UNFINISHED = ["queued", "running"];
const WORK = { train: "Training", classify: "Classification", evaluate: "Evaluation", switch: "Change of key" };
const PILLS = { done: "good", running: "busy", failed: "bad" };
const KINDS = { evaluation_keys: "Evaluation keys", switching_key: "Switching keys", images: "Images", model: "Models", reply: "Replies" };

const at = (id) => document.getElementById(id);
let token = null;
let visit = null; // an AbortController: ends everything that was begun with a token

function size(bytes) {
  const units = ["bytes", "kB", "MB", "GB", "TB"];
  let value = bytes, unit = 0;
  while (value >= 1000 && unit < units.length - 1) { value /= 1000; unit += 1; }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}

function duration(seconds) {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

const moment = (seconds) => new Date(seconds * 1000).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
const count = (number, noun) => `${number.toLocaleString()} ${noun}${number === 1 ? "" : "s"}`;

async function get(path, signal) {
  const answer = await fetch(path, { headers: { Authorization: `Bearer ${token}` }, signal, cache: "no-store" });
  if (answer.status === 401) { leave("The server does not accept this token."); throw new DOMException("", "AbortError"); }
  if (answer.status === 404) return null;
  if (!answer.ok) throw new Error(`status ${answer.status}`);
  return answer.json();
}

function pair(list, name, value) {
  const entry = document.createElement("div");
  const term = document.createElement("dt"), text = document.createElement("dd");
  term.textContent = name;
  text.textContent = value;
  entry.append(term, text);
  list.append(entry);
}

// ---- for everybody --------------------------------------------------------------------------------------------------

async function health() {
  const pill = at("health");
  try {
    const answer = await fetch("readyz", { cache: "no-store" });
    const said = await answer.json();
    pill.textContent = answer.ok ? "Ready" : "Not ready";
    pill.className = `pill ${answer.ok ? "good" : "bad"}`;
    if (answer.ok) at("version").textContent = `Cipherlens ${said.version}`;
  } catch {
    pill.textContent = "Not reachable";
    pill.className = "pill bad";
  }
}

async function identity() {
  try {
    at("service").textContent = (await (await fetch("v1/identity")).json()).service;
  } catch {
    at("service").textContent = "unknown";
  }
}

// ---- with a token ---------------------------------------------------------------------------------------------------

function showUsage(usage) {
  const used = Object.values(usage.stored).reduce((sum, bytes) => sum + bytes, 0);
  at("stored").textContent = size(used);
  at("quota").value = usage.quota_bytes ? used / usage.quota_bytes : 1;
  at("quota-words").textContent = `of ${size(usage.quota_bytes)}`;
  at("kept").textContent = usage.retention_days === null ? "Unlimited" : `${usage.retention_days} days`;
  at("kept-words").textContent = usage.retention_days === null ? "until you delete it" : "then deleted with all that was made of it";
  const kinds = at("kinds");
  kinds.replaceChildren();
  for (const [kind, name] of Object.entries(KINDS)) pair(kinds, name, size(usage.stored[kind] ?? 0));
  pair(kinds, "Jobs at once", `${usage.unfinished_jobs} of ${usage.quota_jobs}`);
  pair(kinds, "Memory of a job", `up to ${size(usage.quota_memory)}`);
}

const shown = new Map(); // elements of jobs by id
const latest = new Map(); // what was last said of each
const followed = new Set();

function showJob(job) {
  let item = shown.get(job.job_id);
  if (!item) {
    item = at("job").content.firstElementChild.cloneNode(true);
    item.querySelector("code").textContent = job.job_id;
    shown.set(job.job_id, item);
  }
  const ended = !UNFINISHED.includes(job.state);
  latest.set(job.job_id, job);
  item.classList.toggle("ended", ended);
  item.querySelector(".kind").textContent = WORK[job.kind] ?? job.kind;
  const pill = item.querySelector(".state");
  pill.textContent = job.state;
  pill.className = `pill state ${PILLS[job.state] ?? ""}`;
  item.querySelector(".when").textContent = moment(job.created);
  item.querySelector("progress").value = job.progress;
  item.querySelector(".words").textContent = words(job);
  tally();
}

function words(job) {
  if (job.error) return job.error.message;
  if (job.state === "queued") return "Waits for its turn";
  if (job.state === "running") {
    const left = job.estimate_seconds === null ? "" : `, about ${duration(job.estimate_seconds)} left`;
    return `${Math.floor(job.progress * 100)} % · ${job.stage}${left}`;
  }
  return job.started === null ? "" : `took ${duration(job.finished - job.started)}`;
}

function tally() {
  const jobs = [...latest.values()];
  at("running").textContent = jobs.filter((job) => job.state === "running").length;
  at("queued").textContent = jobs.filter((job) => job.state === "queued").length;
}

// The newest, and further back only as long as jobs that have not ended are missing.
async function listJobs(unfinished, signal) {
  const answer = await get("v1/jobs", signal);
  while (answer.next !== null && answer.jobs.filter((job) => UNFINISHED.includes(job.state)).length < unfinished) {
    const more = await get(`v1/jobs?before=${answer.next}`, signal);
    answer.jobs.push(...more.jobs);
    answer.next = more.next;
  }
  return answer;
}

function showJobs({ jobs, next }, signal) {
  const listed = jobs.filter((job, i) => i < MOST_JOBS || UNFINISHED.includes(job.state));
  const ids = new Set(listed.map((job) => job.job_id));
  for (const id of shown.keys()) if (!ids.has(id)) { shown.delete(id); latest.delete(id); }
  for (const job of listed) {
    if (!followed.has(job.job_id)) showJob(job);
    if (UNFINISHED.includes(job.state)) follow(job.job_id, signal);
  }
  const list = at("jobs"), items = listed.map((job) => shown.get(job.job_id));
  if (items.length !== list.children.length || items.some((item, i) => list.children[i] !== item)) list.replaceChildren(...items);
  at("no-jobs").hidden = items.length > 0;
  at("more-jobs").hidden = next === null && listed.length === jobs.length;
  tally();
}

// EventSource cannot send a token, so the stream is read by hand.
async function follow(id, signal) {
  if (followed.has(id)) return;
  followed.add(id);
  try {
    const answer = await fetch(`v1/jobs/${id}/events`, { headers: { Authorization: `Bearer ${token}` }, signal, cache: "no-store" });
    if (!answer.ok) return;
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      const events = (text + value).split("\n\n");
      text = events.pop();
      for (const event of events) {
        const data = event.split("\n").find((line) => line.startsWith("data: "));
        if (data) showJob(JSON.parse(data.slice(6)));
      }
    }
  } catch (error) {
    if (error.name !== "AbortError") await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
  } finally {
    followed.delete(id);
  }
}

const views = new Map(); // what was last asked of each data set, by its files

async function showSets({ datasets, next }, signal) {
  const listed = datasets.slice(0, MOST_SETS);
  const items = [];
  for (const set of listed) {
    const files = set.file_ids.join();
    let known = views.get(set.dataset_id);
    if (!known || known.files !== files) {
      const view = await get(`v1/datasets/${set.dataset_id}/view`, signal);
      if (view === null) continue;
      known = { files, item: describe(view) };
      views.set(set.dataset_id, known);
    }
    items.push(known.item);
  }
  at("sets").replaceChildren(...items);
  at("no-sets").hidden = items.length > 0;
  at("more-sets").hidden = next === null && listed.length === datasets.length;
}

function describe(view) {
  const item = at("set").content.firstElementChild.cloneNode(true);
  item.querySelector(".name").textContent = view.dataset_id;
  const facts = item.querySelector(".facts");
  pair(facts, "Images", `${view.images.toLocaleString()} in ${count(view.files, "file")}`);
  pair(facts, "Ciphertexts", size(view.size));
  pair(facts, "Sealed names", size(view.names));
  pair(facts, "Arrived", [...new Set([moment(view.first), moment(view.last)])].join(" – "));
  pair(facts, "Learner", `${view.learner}, ${count(view.columns, "column")}, ${count(view.steps, "step")}`);
  pair(facts, "Public numbers", `ridge ${view.ridge}, largest eigenvalue ${view.largest_eigenvalue.toPrecision(4)}`);
  pair(facts, "Ring", `dimension ${view.ring_dimension.toLocaleString()}, 128-bit security`);
  const classes = item.querySelector(".classes"), most = Math.max(...view.classes, 1);
  view.classes.slice(0, MOST_CLASSES).forEach((images, number) => {
    const name = document.createElement("span"), bar = document.createElement("progress"), value = document.createElement("span");
    name.textContent = `Class number ${number}`;
    name.className = "number";
    bar.value = images / most;
    value.textContent = count(images, "image");
    classes.append(name, bar, value);
  });
  if (view.classes.length > MOST_CLASSES) {
    const more = document.createElement("span");
    more.textContent = `and ${count(view.classes.length - MOST_CLASSES, "class number")} more`;
    classes.append(more);
  }
  return item;
}

async function look(signal) {
  while (!signal.aborted) {
    try {
      const usage = await get("v1/usage", signal);
      if (usage === null) { leave("This token is not an owner’s; only owners have a page here."); return; }
      const [jobs, sets] = await Promise.all([listJobs(usage.unfinished_jobs, signal), get("v1/datasets", signal)]);
      showUsage(usage);
      showJobs(jobs, signal);
      await showSets(sets, signal);
      at("enter").hidden = true;
      at("inside").hidden = false;
    } catch (error) {
      if (error.name === "AbortError") return;
    }
    await Promise.all([health(), new Promise((resolve) => setTimeout(resolve, LOOK_MS))]);
  }
}

function leave(why) {
  visit?.abort();
  token = visit = null;
  for (const known of [shown, latest, followed, views]) known.clear();
  for (const list of ["jobs", "sets", "kinds"]) at(list).replaceChildren();
  at("inside").hidden = true;
  at("enter").hidden = false;
  at("refusal").textContent = why;
  at("refusal").hidden = !why;
}

at("enter").addEventListener("submit", (event) => {
  event.preventDefault();
  leave("");
  token = at("token").value.trim();
  at("token").value = "";
  if (!/^clt_[0-9a-f]{32}_[\w-]{43}$/.test(token)) { leave("This is no token: one begins with clt_ and has 80 characters."); return; }
  visit = new AbortController();
  look(visit.signal);
});
at("leave").addEventListener("click", () => leave(""));
health();
identity();
setInterval(() => { if (token === null) health(); }, 10000);
