// The operations page: one file without a build step, on the React, router and colours of Airflow's UI.
// Airflow imports it as a module and takes the components from globalThis: "Operations" (a page) and "Tonight" (a card).
// Whatever others wrote (names, keys, reasons, payloads) is shown as text by React, after visible() has made control
// characters and marks that reverse a line visible. There is no innerHTML, and nothing comes from another host.

const { createElement, Fragment, useCallback, useEffect, useMemo, useRef, useState } = globalThis.React;
const { Link, useLocation, useNavigate, useParams } = globalThis.ReactRouterDOM;

// h("div.name", {props}, ...children); the properties may be left out.
const h = (what, ...rest) => {
  const first = rest[0];
  const plain = first !== null && typeof first === "object" && !Array.isArray(first) && !first.$$typeof;
  const props = plain ? rest.shift() : {};
  if (typeof what !== "string") return createElement(what, props, ...rest);
  const [tag, ...names] = what.split(".");
  const className = [...names, props.className].filter(Boolean).join(" ") || undefined;
  return createElement(tag || "div", { ...props, className }, ...rest);
};

const STYLE = `
.ops { --ok: var(--chakra-colors-green-solid); --bad: var(--chakra-colors-red-solid);
  --warn: var(--chakra-colors-orange-solid); --new: var(--chakra-colors-blue-solid);
  --line: var(--chakra-colors-border-emphasized); --soft: var(--chakra-colors-bg-muted); --dim: var(--chakra-colors-fg-muted);
  color: var(--chakra-colors-fg); font-size: 13px; line-height: 1.45; padding: 12px 16px 32px; max-width: 1400px; }
.ops h1 { font-size: 18px; font-weight: 600; margin-right: 16px; }
.ops h2 { font-size: 15px; font-weight: 600; margin: 18px 0 6px; }
.ops .row:has(> h2) { margin-top: 18px; } .ops .row > h2 { margin: 0; }
.ops a { color: var(--chakra-colors-blue-fg); text-decoration: none; }
.ops a:hover { text-decoration: underline; }
.ops :focus-visible { outline: 2px solid var(--new); outline-offset: 1px; }
.ops .row { display: flex; flex-wrap: wrap; gap: 8px; align-items: center; margin: 6px 0; }
.ops .tabs { display: flex; gap: 2px; overflow-x: auto; border-bottom: 1px solid var(--line); margin-bottom: 12px; }
.ops .tabs a { padding: 6px 12px; color: var(--dim); border-bottom: 2px solid transparent; white-space: nowrap; }
.ops .tabs a[aria-current] { color: var(--chakra-colors-fg); border-color: var(--new); font-weight: 600; }
.ops .tabs .refresh { margin-left: auto; padding: 6px 12px; color: var(--dim); cursor: pointer; }
.ops input, .ops select { background: var(--chakra-colors-bg); border: 1px solid var(--line); border-radius: 5px;
  padding: 4px 8px; min-width: 0; color: inherit; color-scheme: light dark; }
.ops input[type=checkbox] { padding: 0; width: 14px; height: 14px; vertical-align: -2px; }
.ops button.b { border: 1px solid var(--line); border-radius: 5px; padding: 4px 10px; cursor: pointer;
  background: var(--chakra-colors-bg); white-space: nowrap; }
.ops button.b:hover:not(:disabled) { background: var(--soft); }
.ops button.b:disabled { opacity: .45; cursor: default; }
.ops button.main { background: var(--new); border-color: var(--new); color: #fff; }
.ops button.main:hover:not(:disabled) { background: var(--new); filter: brightness(1.1); }
.ops .scroll { overflow-x: auto; }
.ops table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
.ops th { text-align: left; font-weight: 500; color: var(--dim); border-bottom: 1px solid var(--line); padding: 4px 10px 4px 0; }
.ops td { border-bottom: 1px solid var(--chakra-colors-border); padding: 4px 10px 4px 0; vertical-align: top; max-width: 34em; overflow-wrap: anywhere; }
.ops td.n, .ops th.n { text-align: right; white-space: nowrap; }
.ops td.w, .ops th.w { white-space: nowrap; }
.ops .dim { color: var(--dim); }
.ops .mono { font-family: ui-monospace, SFMono-Regular, Menlo, monospace; font-size: 12px; overflow-wrap: anywhere; }
.ops .strip { border: 1px solid var(--line); border-left: 4px solid var(--bad); border-radius: 4px; background: var(--chakra-colors-bg-subtle);
  padding: 6px 10px; margin: 0 0 8px; overflow-wrap: anywhere; }
.ops .strip.note { border-left-color: var(--warn); } .ops .strip.good { border-left-color: var(--ok); }
.ops .tag { display: inline-block; border-radius: 9px; padding: 0 8px; font-size: 12px; border: 1px solid currentColor; white-space: nowrap; }
.ops .ok { color: var(--chakra-colors-green-fg); } .ops .bad { color: var(--chakra-colors-red-fg); }
.ops .warn { color: var(--chakra-colors-orange-fg); } .ops .new { color: var(--chakra-colors-blue-fg); }
.ops pre { background: var(--chakra-colors-bg-subtle); border: 1px solid var(--line); border-radius: 5px; padding: 8px 10px; max-height: 60vh;
  overflow: auto; white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: plaintext; font-size: 12px; }
.ops pre .add { color: var(--chakra-colors-green-fg); } .ops pre .del { color: var(--chakra-colors-red-fg); }
.ops dl { display: grid; grid-template-columns: max-content 1fr; gap: 2px 14px; margin: 6px 0; }
.ops dt { color: var(--dim); } .ops dd { min-width: 0; overflow-wrap: anywhere; }
.ops td .mono { display: inline-block; min-width: 17em; }
.ops bdi { unicode-bidi: isolate; }
.ops .panel { border: 1px solid var(--line); border-radius: 6px; padding: 10px 14px; margin: 10px 0; }
.ops .legend { display: flex; flex-wrap: wrap; gap: 4px 14px; color: var(--dim); font-size: 12px; }
.ops .legend svg { display: inline; vertical-align: -1px; margin-right: 5px; }
.ops .year { max-width: 860px; width: 100%; height: auto; display: block; }
.ops .year text { fill: var(--dim); font-size: 8px; }
.ops .year rect { cursor: pointer; }
.ops .months { display: grid; grid-template-columns: 70px repeat(31, minmax(27px, 1fr)); gap: 2px; min-width: 960px; }
.ops .months .m { color: var(--dim); font-size: 12px; align-self: center; white-space: nowrap; }
.ops .months button { font-size: 10px; line-height: 1.15; height: 28px; border-radius: 3px; background: var(--soft); text-align: center;
  overflow: hidden; border: 1px solid transparent; }
.ops .months button.ok { background: var(--chakra-colors-green-subtle); color: var(--chakra-colors-green-fg); }
.ops .months button.bad { background: var(--chakra-colors-red-subtle); color: var(--chakra-colors-red-fg); }
.ops .months button[aria-pressed=true] { border-color: var(--chakra-colors-fg); }
.ops .bar { height: 8px; border-radius: 4px; background: var(--soft); overflow: hidden; min-width: 90px; margin-top: 5px; }
.ops .bar div { height: 100%; background: var(--ok); }
@media (max-width: 480px) { .ops { padding: 8px 8px 24px; } .ops td { max-width: 60vw; } .ops dl { grid-template-columns: 1fr; gap: 0; }
  /* Squares that a finger meets; what is newest is seen first. */
  .ops .newest { display: flex; flex-direction: row-reverse; overflow-x: auto; } .ops .year { min-width: 720px; } }
`;

// ---- asking ---------------------------------------------------------------------------------------------------------

// Until then the server is asked for what is there now, not for what it has kept.
let freshUntil = 0;

const address = (path) => new URL(path, document.baseURI).href;

// A JSON answer; throws an Error whose message is for people.
const ask = async (path, { method = "GET", body, fresh, signal } = {}) => {
  const headers = { Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (fresh || Date.now() < freshUntil) headers["Cache-Control"] = "no-cache";
  let answer;
  try {
    answer = await fetch(address(path), {
      method, headers, signal, credentials: "same-origin", body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("Airflow's server does not answer: is the network there?");
  }
  const text = await answer.text();
  let found = null;
  try { found = text ? JSON.parse(text) : null; } catch { /* not JSON: said below */ }
  if (answer.ok && (found !== null || text === "")) return found;
  if (answer.status === 401) throw new Error("You are not logged in any more: reload the page.");
  const detail = typeof found?.detail === "string" ? found.detail
    : found?.detail?.reason || (found ? JSON.stringify(found.detail ?? found).slice(0, 500) : "");
  if (answer.status === 403) throw new Error(`Your role does not allow this (${detail || "403"}).`);
  throw new Error(detail || `Airflow answered ${answer.status}`);
};

// The tasks that Airflow lists, a page at a time: it gives at most 100 at once, and does not say so.
const pagesOfTasks = async function* (list) {
  for (let offset = 0, page; (page = (await list(offset)).task_instances).length; offset += page.length) yield page;
};

// What an answer lacks: what could not be read or done, and what a request's limits left out.
const lacking = (found) => [...found.strips, ...found.left_out.map((text) => `left out, to stay within a request's limits: ${text}`)].join("; ");

const query = (values) => {
  const pairs = Object.entries(values).flatMap(([name, value]) =>
    (Array.isArray(value) ? value : [value]).filter((one) => one !== undefined && one !== null && one !== "").map((one) => [name, one]));
  return pairs.length ? `?${new URLSearchParams(pairs)}` : "";
};

// What a path of the page's routes answers; asked again when the path changes and by again(). null asks nothing.
const useAsk = (path) => {
  const [state, setState] = useState({ path: null, data: null, error: null });
  const [round, setRound] = useState(0);
  useEffect(() => {
    if (path === null) return undefined;
    const control = new AbortController();
    ask(path, { fresh: round > 0, signal: control.signal }).then(
      (data) => setState({ path, data, error: null }),
      (error) => error.name === "AbortError" || setState({ path, data: null, error: error.message }),
    );
    return () => control.abort();
  }, [path, round]);
  const again = useCallback(() => setRound((number) => number + 1), []);
  const current = state.path === path && path !== null;
  return { data: current ? state.data : null, error: current ? state.error : null, loading: path !== null && !current, again };
};

// ---- showing --------------------------------------------------------------------------------------------------------

// Control characters and marks that reverse a line, made visible; breaks stay where they are wanted.
const visible = (value, breaks = false) => String(value ?? "").replace(
  /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]/gu,
  (found) => {
    const code = found.codePointAt(0);
    if (breaks && (found === "\n" || found === "\t")) return found;
    if (code > 0xffff) return found;
    return code < 0x20 ? String.fromCodePoint(0x2400 + code) : `\\u${code.toString(16).padStart(4, "0")}`;
  });
const Text = ({ children, mono }) => h(mono ? "bdi.mono" : "bdi", visible(children));
const number = (value) => (value === null || value === undefined ? "" : Number(value).toLocaleString("en-US"));
const many = (count, noun, more = `${noun}s`) => `${number(count)} ${count === 1 ? noun : more}`;
const bytes = (value) => {
  if (value === null || value === undefined) return "";
  for (const [unit, size] of [["GB", 2 ** 30], ["MB", 2 ** 20], ["kB", 2 ** 10]])
    if (value >= size) return `${(value / size).toFixed(1)} ${unit}`;
  return `${number(value)} B`;
};
const compact = (value) => (value < 1000 ? String(value) : `${(Math.floor(value / 100) / 10).toString()}k`);
const time = (value) => {
  const then = value ? new Date(value) : null;
  return then && !Number.isNaN(then.getTime()) ? `${then.toISOString().slice(0, 19).replace("T", " ")} UTC` : visible(value);
};
const age = (value, now = Date.now()) => {
  const seconds = Math.max(0, Math.floor((now - new Date(value).getTime()) / 1000));
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["min", 60]])
    if (seconds >= 2 * size) return `${Math.floor(seconds / size)} ${unit}`;
  return `${seconds} s`;
};
const dayText = (date) => date.toISOString().slice(0, 10);
const shifted = (day, days) => dayText(new Date(Date.parse(`${day}T00:00:00Z`) + days * 86400000));
const isId = (text) => /^-?\d{1,19}$/.test(text);
const isDay = (text) => /^\d{4}-\d\d-\d\d$/.test(text || "") && !Number.isNaN(Date.parse(text));
const Run = ({ dag, run, children }) => h(Link, { to: `/dags/${dag}/runs/${encodeURIComponent(run)}` }, children || visible(run));
// The log of the mapped task that did `number`: tasks are named "1003 Acme", "1000-1099 (100 clients)", "orders 0-49".
const Log = ({ dag, run, task, number: wanted }) => {
  const navigate = useNavigate();
  const tasks = `/dags/${dag}/runs/${encodeURIComponent(run)}/tasks/${task}`;
  const open = async (event) => {
    event.preventDefault();
    const holds = (name) => {
      const [, least, most] = /^(?:orders? )?(-?\d+)(?:-(-?\d+))?\b/.exec(name || "") || [];
      return least !== undefined && Number(least) <= wanted && wanted <= Number(most ?? least);
    };
    const first = async (more) => {
      const list = (offset) => ask(`api/v2/dags/${dag}/dagRuns/${encodeURIComponent(run)}/taskInstances/${task}/listMapped${query({ limit: 100, offset, ...more })}`);
      for await (const page of pagesOfTasks(list)) {
        const one = page.find((each) => holds(each.rendered_map_index));
        if (one) return one;
      }
      return null;
    };
    let found = null;
    try {
      // One task a client, of which Airflow finds those whose id begins so; else clients or orders share tasks.
      for (const more of [{ rendered_map_index_prefix_pattern: `${wanted} ` }, {}]) found ??= await first(more);
    } catch { /* The run is gone, or may not be seen: its page says so. */ }
    navigate(found ? `${tasks}/mapped/${found.map_index}` : tasks);
  };
  return h("a", { href: address(tasks.slice(1)), onClick: open }, "log");
};
const Button = ({ main, ...props }) => h("button.b", { type: "button", className: main ? "main" : undefined, ...props });
const Tag = ({ kind, children }) => h(`span.tag.${kind}`, visible(children));

const Strips = ({ asked = [], errors = [] }) => {
  const bad = [...errors, ...asked.flatMap((each) => [each.error, ...(each.data?.strips || [])])].filter(Boolean);
  const left = asked.flatMap((each) => each.data?.left_out || []);
  return h(Fragment,
    ...bad.map((text, index) => h("div.strip", { key: `b${index}`, role: "alert" }, visible(text))),
    ...left.map((text, index) => h("div.strip.note", { key: `l${index}`, role: "status" }, `Left out, to stay within a request's limits: ${visible(text)}.`)));
};

// A table; columns are [heading, cell(row), class].
const Table = ({ columns, rows, empty = "Nothing.", id }) => rows.length === 0 ? h("p.dim", empty)
  : h("div.scroll", h("table",
    h("thead", h("tr", ...columns.map(([heading, , kind], at) => h(`th.${kind || "t"}`, { key: at, scope: "col" }, heading)))),
    h("tbody", ...rows.map((row, index) => h("tr", { key: id ? id(row) : index },
      ...columns.map(([, cell, kind], at) => h(`td.${kind || "t"}`, { key: at }, cell(row))))))));

const Pages = ({ data, cursor, onTurn }) => data && (data.next || cursor > 0)
  ? h("div.row",
    h(Button, { disabled: cursor === 0, onClick: () => onTurn(Math.max(0, cursor - 25)) }, "Back"),
    h("span.dim", `${number(cursor + 1)}–${number(cursor + data.rows.length)} of ${number(data.total)}`),
    h(Button, { disabled: !data.next, onClick: () => onTurn(data.next) }, "Next"))
  : null;

// An action: shows what went wrong or was done; `run` returns the good news.
const useAction = () => {
  const [state, setState] = useState({ busy: false, error: null, done: null });
  const act = async (run) => {
    setState({ busy: true, error: null, done: null });
    try { setState({ busy: false, error: null, done: await run() }); }
    catch (error) { setState({ busy: false, error: error.message, done: null }); }
  };
  const shown = h(Fragment,
    state.error && h("div.strip", { role: "alert" }, visible(state.error)),
    state.done && h("div.strip.good", { role: "status" }, state.done));
  return { ...state, act, shown, clear: () => setState({ busy: false, error: null, done: null }) };
};

const isPaused = async (dag) => (await ask(`api/v2/dags/${dag}`)).is_paused;
const refusePaused = async (dag) => {
  if (await isPaused(dag)) throw new Error(`${dag} is paused, so a run would wait without end: unpause it first.`);
};
// Starts a run by Airflow's REST API, as the user.
const startRun = async (dag, conf) => {
  await refusePaused(dag);
  return ask(`api/v2/dags/${dag}/dagRuns`, { method: "POST", body: { logical_date: null, conf } });
};
const started = async (dag, conf) => h("span", "Started: ", h(Run, { dag, run: (await startRun(dag, conf)).dag_run_id }));

// The state of a view lies in the address: it can be sent to a colleague, and the browser's Back works.
const useAddress = () => {
  const { search, pathname } = useLocation();
  const navigate = useNavigate();
  const values = useMemo(() => new URLSearchParams(search), [search]);
  const change = useCallback((changes, { replace = false } = {}) => {
    const next = new URLSearchParams(search);
    for (const [name, value] of Object.entries(changes))
      if (value === null || value === "" || value === undefined) next.delete(name); else next.set(name, value);
    navigate(`${pathname}?${next}`, { replace });
  }, [navigate, pathname, search]);
  return [(name) => values.get(name) || "", change];
};

// ---- Evidence -------------------------------------------------------------------------------------------------------

const ARCHIVE = "dex_trigger_archive";
const STATES = {
  archived: ["var(--ok)", 1], changed: ["var(--new)", 1], empty: ["var(--warn)", 1], failed: ["var(--bad)", 1],
  "not selected": ["var(--dim)", 0.35], unknown: ["var(--dim)", 0.15], missing: ["none", 1],
};
const Square = ({ state, size = 9, ...props }) => {
  const [fill, opacity] = STATES[state] || STATES.unknown;
  return h("rect", { width: size, height: size, rx: 1.5, fill, fillOpacity: opacity, stroke: fill === "none" ? "var(--line)" : "none", ...props });
};

const Year = ({ days, chosen, onChoose }) => {
  const first = new Date(`${days[0].day}T00:00:00Z`);
  const lead = (first.getUTCDay() + 6) % 7;
  const at = (index) => [Math.floor((index + lead) / 7) * 11 + 22, ((index + lead) % 7) * 11 + 12];
  const onKeyDown = (event) => {
    const step = { ArrowLeft: -7, ArrowRight: 7, ArrowUp: -1, ArrowDown: 1 }[event.key];
    const now = days.findIndex((each) => each.day === chosen);
    const next = days[(now < 0 ? days.length - 1 : now) + (step || 0)];
    if (step && next) { event.preventDefault(); onChoose(next.day); }
  };
  const months = days.map((each, index) => [each.day, index]).filter(([day]) => day.endsWith("-01"));
  return h("svg.year", { viewBox: "0 0 612 92", role: "img", tabIndex: 0, onKeyDown,
    "aria-label": "365 days, one square each; arrow keys choose a day" },
  ...["Mon", "Wed", "Fri"].map((name, index) => h("text", { key: name, x: 0, y: 19 + index * 22 }, name)),
  ...months.map(([day, index]) => h("text", { key: `month ${day}`, x: at(index)[0], y: 8 }, new Date(day).toLocaleString("en-US", { month: "short", timeZone: "UTC" }))),
  ...days.map((each, index) => {
    const [x, y] = at(index);
    const detail = each.versions > 1 ? `, ${each.versions} versions` : "";
    return h(Square, { key: each.day, state: each.state, x, y, "data-day": each.day, onClick: () => onChoose(each.day),
      ...(each.day === chosen ? { stroke: "var(--chakra-colors-fg)", strokeWidth: 1.6 } : {}) },
    h("title", `${each.day}: ${each.state}${detail}`));
  }));
};

const Legend = ({ counts }) => h("div.legend", ...Object.keys(STATES).filter((state) => counts[state]).map((state) =>
  h("span", { key: state }, h("svg", { width: 10, height: 10 }, h(Square, { state, x: 0.5, y: 0.5 })), `${state} ${number(counts[state])}`)));

const Evidence = () => {
  const [get, change] = useAddress();
  const [client, day] = [get("client"), get("day")];
  const [text, setText] = useState(client);
  const [asked, setAsked] = useState("");
  const [cursor, setCursor] = useState(0);
  useEffect(() => {
    const timer = setTimeout(() => { setAsked(text.trim()); setCursor(0); }, 250);
    return () => clearTimeout(timer);
  }, [text]);
  const found = useAsk(client ? null : `ops/evidence/clients${query({ q: asked, cursor })}`);
  const strip = useAsk(client ? `ops/evidence/clients/${encodeURIComponent(client)}${query({ to: get("to") })}` : null);
  const choose = (id) => { setText(String(id)); change({ client: id }); };
  const submit = (event) => {
    event.preventDefault();
    // An id is taken as it is: a client that is selected no longer has evidence too.
    if (isId(text.trim())) choose(text.trim());
    else if (found.data?.rows.length === 1) choose(found.data.rows[0].client_id);
  };
  const counts = {};
  for (const each of strip.data?.days || []) counts[each.state] = (counts[each.state] || 0) + 1;
  return h(Fragment,
    h("form.row", { onSubmit: submit, role: "search" },
      h("input", { autoFocus: true, value: text, size: 30, placeholder: "Client: id or part of the name", "aria-label": "Client",
        onChange: (event) => { setText(event.target.value); if (client) change({ client: null, day }); } }),
      h("input", { type: "date", value: day, "aria-label": "Day", onChange: (event) => change({ day: event.target.value }) }),
      h("button.b.main", { type: "submit" }, "Show")),
    h(Strips, { asked: [found, strip] }),
    !client && (found.loading ? h("p.dim", "Searching…") : found.data?.rows && h(Fragment,
      h(Table, {
        id: (row) => row.client_id,
        columns: [
          ["Client", (row) => h("a", { href: "#", onClick: (event) => { event.preventDefault(); choose(row.client_id); } }, row.client_id), "w"],
          ["Name", (row) => h(Text, row.client_name)],
        ],
        rows: found.data.rows,
        empty: isId(asked) ? `No client of the newest day has ${asked} in its id or name. Press Enter to look for evidence of client ${asked} all the same.` : "No client of the newest day has this in its id or name.",
      }),
      h(Pages, { data: found.data, cursor, onTurn: setCursor }))),
    client && strip.loading && h("p.dim", "Reading…"),
    client && strip.data?.days && h(Fragment,
      h("h2", `Client ${client} `, h(Text, strip.data.client_name)),
      h("div.newest", h(Year, { days: strip.data.days, chosen: day, onChoose: (chosen) => change({ day: chosen }, { replace: true }) })),
      h("div.row", h(Legend, { counts }),
        h(Button, { onClick: () => change({ to: shifted(strip.data.days[0].day, -1) }) }, "Year before"),
        get("to") && h(Button, { onClick: () => change({ to: null }) }, "Today"))),
    client && isDay(day) && h(Answer, { key: `${client}/${day}`, client, day, change }));
};

const Answer = ({ client, day, change }) => {
  const base = `ops/evidence/clients/${encodeURIComponent(client)}/days/${day}`;
  const answer = useAsk(base);
  const [open, setOpen] = useState(null);
  const data = answer.data?.key ? answer.data : null;
  const kept = (data?.versions || []).filter((version) => !version.deleted);
  const latest = data?.versions[0];
  return h("section.panel", { "aria-label": "Answer" },
    h("div.row",
      h("b", `Client ${client} on ${day}`),
      h(Button, { onClick: () => change({ day: shifted(day, -1) }, { replace: true }), "aria-label": "Day before" }, "‹"),
      h(Button, { onClick: () => change({ day: shifted(day, 1) }, { replace: true }), "aria-label": "Day after" }, "›"),
      data && (latest && !latest.deleted
        ? latest.as_stored === false ? h(Tag, { kind: "bad" }, "CHANGED since it was stored") : h(Tag, { kind: "ok" }, "archived")
        : h(Tag, { kind: data.reason ? "bad" : "warn" }, data.reason ? "failed" : latest ? "deleted" : "no answer archived"))),
    h(Strips, { asked: [answer] }),
    answer.loading && h("p.dim", "Reading and recomputing the digest…"),
    data && h("dl",
      data.reason && h(Fragment, h("dt", "Why it failed"), h("dd", h(Text, data.reason))),
      data.outcome && h(Fragment, h("dt", "Outcome of the day"), h("dd", data.outcome)),
      data.run_id && h(Fragment, h("dt", "Run"), h("dd", h(Run, { dag: ARCHIVE, run: data.run_id }), ", ", h(Log, { dag: ARCHIVE, run: data.run_id, task: "archive_client", number: client }))),
      h("dt", "Object"), h("dd", h(Text, { mono: true }, `s3://${data.bucket}/${data.key}`)),
      h("dt", "Day"), h("dd", h(Link, { to: `/plugin/operations/days?day=${day}` }, "all clients of the day"))),
    kept.length > 0 && h("div.row",
      h(Button, { main: true, onClick: () => setOpen({ version: kept[0].version_id }) }, "Show body"),
      h("a", { href: address(`${base}/download${query({ version: kept[0].version_id })}`), download: "" }, "Download body"),
      h("a", { href: address(`${base}/proof`), download: "" }, "Download proof"),
      h("span.dim", "Each look at a body is written to Airflow's audit log.")),
    data && data.versions.length > 0 && h(Table, {
      id: (row) => row.version_id,
      columns: [
        ["", (row) => (row.latest ? "latest" : ""), "w"],
        ["Archived", (row) => time(row.archived_at || row.stored_at), "w"],
        ["Bytes", (row) => (row.deleted ? "deleted" : number(row.bytes)), "n"],
        ["sha256, recomputed now", (row) => h("span.mono", row.sha256)],
        ["Proof", (row) => row.deleted ? "" : row.as_stored === null ? h(Tag, { kind: "warn" }, "no digest noted")
          : row.as_stored ? h(Tag, { kind: "ok" }, "as stored") : h(Tag, { kind: "bad" }, "CHANGED"), "w"],
        ["Version", (row) => h(Text, { mono: true }, row.version_id)],
        ["", (row) => {
          const before = kept[kept.indexOf(row) + 1];
          return row.deleted ? null : h("span",
            h(Button, { onClick: () => setOpen({ version: row.version_id }) }, "Show"), " ",
            before && h(Button, { onClick: () => setOpen({ version: row.version_id, other: before.version_id }) }, "What changed"));
        }, "w"],
      ],
      rows: data.versions,
    }),
    open && h(open.other ? Difference : Body, { key: JSON.stringify(open), title: "Body", onClose: () => setOpen(null),
      path: `${base}/${open.other ? "difference" : "body"}${query(open)}` }));
};

const Body = ({ path, title, onClose }) => {
  const asked = useAsk(path);
  const [raw, setRaw] = useState(false);
  const data = asked.data?.text !== undefined ? asked.data : null;
  return h(Fragment,
    h("div.row",
      h("b", visible(title)),
      data && h(Button, { onClick: () => setRaw(!raw) }, raw ? "Show indented" : "Show as stored"),
      h(Button, { onClick: onClose }, "Close"),
      data?.cut && h("span.warn", `the first 2 MB of ${bytes(data.bytes)}`)),
    h(Strips, { asked: [asked] }),
    asked.loading && h("p.dim", "Reading…"),
    data && h("pre", { tabIndex: 0, "aria-label": "Body" }, visible(raw ? data.text : data.pretty, true)));
};

const Difference = ({ path, onClose }) => {
  const asked = useAsk(path);
  const data = asked.data?.lines ? asked.data : null;
  return h(Fragment,
    h("div.row", h("b", "What changed from the version before"), h(Button, { onClick: onClose }, "Close")),
    h(Strips, { asked: [asked] }),
    asked.loading && h("p.dim", "Reading…"),
    data?.too_long && h("p.dim", "Too long to compare here: download both versions."),
    data && !data.too_long && h("pre", { tabIndex: 0, "aria-label": "Difference" }, ...data.lines.map((line, index) =>
      h("span", { key: index, className: line.startsWith("+") ? "add" : line.startsWith("-") ? "del" : undefined }, `${visible(line, true)}\n`))));
};

// ---- Days -----------------------------------------------------------------------------------------------------------

const Days = ({ actions }) => {
  const [get, change] = useAddress();
  const calendar = useAsk(`ops/days${query({ to: get("to") })}`);
  const day = get("day");
  const byDay = useMemo(() => new Map((calendar.data?.days || []).map((each) => [each.day, each])), [calendar.data]);
  const months = [];
  if (calendar.data?.first) {
    const last = new Date(`${calendar.data.last}T00:00:00Z`);
    for (let back = 0; back < 12; back += 1) months.push(new Date(Date.UTC(last.getUTCFullYear(), last.getUTCMonth() - back, 1)));
  }
  return h(Fragment,
    h(Strips, { asked: [calendar] }),
    calendar.loading && h("p.dim", "Reading…"),
    day && isDay(day) && h(OneDay, { key: day, day, actions, onClose: () => change({ day: null }) }),
    months.length > 0 && h(Fragment,
      h("div.row", h("h2", "Archived of all clients"),
        h(Button, { onClick: () => change({ to: shifted(dayText(months[11]), -1) }) }, "Year before"),
        get("to") && h(Button, { onClick: () => change({ to: null }) }, "Today"),
        calendar.data.left_out.length > 0 && h(Button, { onClick: calendar.again }, "Read the rest")),
      h("div.scroll", h("div.months",
        ...months.flatMap((month) => [
          h("span.m", { key: `${dayText(month)} name` }, month.toLocaleString("en-US", { month: "short", year: "numeric", timeZone: "UTC" })),
          ...Array.from({ length: 31 }, (_, index) => {
            const date = new Date(month.getTime() + index * 86400000);
            const text = dayText(date);
            if (date.getUTCMonth() !== month.getUTCMonth()) return h("span", { key: `${dayText(month)}-${index}` });
            const found = byDay.get(text);
            const known = found && found.total_clients !== undefined;
            const kind = !known ? "" : found.failed_archives > 0 ? ".bad" : ".ok";
            return h(`button${kind}`, { key: text, type: "button", "aria-pressed": text === day, onClick: () => change({ day: text }),
              title: known ? `${text}: ${number(found.successful_archives)} of ${number(found.total_clients)} archived, ${number(found.failed_archives)} failed` : `${text}: ${found ? "not read yet" : "no run has ended"}`,
              "aria-label": known ? `${text}: ${found.successful_archives} of ${found.total_clients} archived` : text },
            known ? h(Fragment, compact(found.successful_archives), h("br"), h("span.dim", `/${compact(found.total_clients)}`)) : found ? "?" : "");
          }),
        ])))),
    h(Backfill, { actions, day }));
};

const OneDay = ({ day, actions, onClose }) => {
  const [text, setText] = useState("");
  const [outcome, setOutcome] = useState("");
  const [cursor, setCursor] = useState(0);
  const [chosen, setChosen] = useState([]);
  const asked = useAsk(`ops/days/${day}${query({ q: text, outcome, cursor })}`);
  const action = useAction();
  const data = asked.data?.rows ? asked.data : null;
  const again = (clients) => action.act(() => started(ARCHIVE, { trigger_date: day, client_ids: clients }));
  const toggle = (id) => setChosen(chosen.includes(id) ? chosen.filter((each) => each !== id) : [...chosen, id]);
  return h("section.panel", { "aria-label": `Day ${day}` },
    h("div.row", h("b", day),
      data?.manifest && h("span", `${number(data.successful_archives)} of ${number(data.total_clients)} archived, ${number(data.failed_archives)} failed`),
      data && !data.manifest && h("span.warn", "No run has ended for this day."),
      h(Button, { onClick: onClose }, "Close")),
    h(Strips, { asked: [asked] }), action.shown,
    data?.manifest && h(Fragment,
      h("div.row",
        h("input", { value: text, placeholder: "Client: id or name", "aria-label": "Filter of clients", onChange: (event) => { setText(event.target.value); setCursor(0); } }),
        h("select", { value: outcome, "aria-label": "Outcome", onChange: (event) => { setOutcome(event.target.value); setCursor(0); } },
          h("option", { value: "" }, "every outcome"), ...["failed", "archived", "updated", "unchanged"].map((each) => h("option", { key: each, value: each }, each))),
        actions && data.failed.length > 0 && h(Button, { main: true, disabled: action.busy, onClick: () => again(data.failed) }, `Run the ${number(data.failed.length)} failed again`),
        actions && h(Button, { disabled: action.busy || chosen.length === 0, onClick: () => again(chosen) }, `Run ${number(chosen.length)} chosen again`)),
      h(Table, {
        id: (row) => row.client_id,
        columns: [
          ...(actions ? [["", (row) => h("input", { type: "checkbox", checked: chosen.includes(row.client_id), "aria-label": `Choose client ${row.client_id}`, onChange: () => toggle(row.client_id) }), "w"]] : []),
          ["Client", (row) => h(Link, { to: `/plugin/operations/evidence?client=${row.client_id}&day=${day}` }, row.client_id), "w"],
          ["Name", (row) => h(Text, row.client_name)],
          ["Outcome", (row) => h(Tag, { kind: row.outcome === "failed" ? "bad" : "ok" }, row.outcome), "w"],
          ["Reason", (row) => h(Text, row.reason)],
          ["Bytes", (row) => number(row.bytes), "n"],
          ["Log", (row) => row.run_id && h(Log, { dag: ARCHIVE, run: row.run_id, task: "archive_client", number: row.client_id }), "w"],
          ["Run", (row) => row.run_id && h(Run, { dag: ARCHIVE, run: row.run_id })],
        ],
        rows: data.rows, empty: "No client of the day matches.",
      }),
      h(Pages, { data, cursor, onTurn: setCursor })));
};

const Backfill = ({ actions, day }) => {
  const [first, setFirst] = useState(day);
  const [last, setLast] = useState(day);
  const [clients, setClients] = useState("");
  const [again, setAgain] = useState(false);
  const [plan, setPlan] = useState(null);
  const action = useAction();
  if (!actions) return null;
  const ids = clients.split(/[\s,;]+/).filter(Boolean);
  const wrong = ids.find((id) => !isId(id));
  const order = () => ({
    dag_id: ARCHIVE, from_date: `${first}T00:00:00Z`, to_date: `${last}T00:00:00Z`, run_backwards: false, max_active_runs: 1,
    reprocess_behavior: again ? "completed" : "failed", dag_run_conf: ids.length ? { client_ids: ids.map((id) => (Number.isSafeInteger(Number(id)) ? Number(id) : id)) } : {},
  });
  const show = () => action.act(async () => {
    setPlan(null);
    const [found, dry] = await Promise.all([
      ask(`ops/days/plan${query({ first, last, client: ids })}`, { fresh: true }),
      ask("api/v2/backfills/dry_run", { method: "POST", body: order() }),
    ]);
    if (found.strips.length || found.days === undefined) throw new Error(lacking(found));
    setPlan({ ...found, runs: dry.backfills.length });
    return null;
  });
  const start = () => action.act(async () => {
    await refusePaused(ARCHIVE);
    const made = await ask("api/v2/backfills", { method: "POST", body: order() });
    setPlan(null);
    return h("span", `Backfill ${made.id} started: `, h(Link, { to: `/dags/${ARCHIVE}/backfills` }, "its runs"));
  });
  const forget = (set) => (event) => { set(event.target.type === "checkbox" ? event.target.checked : event.target.value); setPlan(null); };
  return h("section", { "aria-label": "Backfill" },
    h("h2", "Backfill"),
    h("form.row", { onSubmit: (event) => { event.preventDefault(); show(); } },
      h("input", { type: "date", value: first, "aria-label": "First day", required: true, onChange: forget(setFirst) }),
      h("input", { type: "date", value: last, "aria-label": "Last day", required: true, onChange: forget(setLast) }),
      h("input", { value: clients, size: 28, placeholder: "Client ids; empty = all", "aria-label": "Clients of the backfill", onChange: forget(setClients) }),
      h("label", h("input", { type: "checkbox", checked: again, onChange: forget(setAgain) }), " also days whose run succeeded"),
      h("button.b", { type: "submit", disabled: action.busy || Boolean(wrong) || !isDay(first) || !isDay(last) }, "Plan")),
    wrong && h("p.bad", `${visible(wrong)} is no client id.`),
    action.shown,
    plan && h("div.panel.row", { role: "status" },
      h("b", [
        plan.clients ? `${many(plan.days, "day")} × ${many(plan.clients, "client")}` : `${many(plan.days, "day")}, all clients`,
        plan.there === null ? "too many to count" : `${number(plan.there)} there`
          + (plan.missing !== undefined ? `, ${number(plan.missing)} missing` : `, ${many(plan.without_manifest, "day")} without a run that ended`),
        `starts ${many(plan.runs, "run")}`,
      ].join(": ").replace(/: starts/, ", starts")),
      h(Button, { main: true, disabled: action.busy || plan.runs === 0, onClick: start }, `Start ${many(plan.runs, "run")}`),
      plan.runs === 0 && h("span.dim", "Every day of the range has a run that succeeded or is under way, or lies in the future.")));
};

// ---- Files ----------------------------------------------------------------------------------------------------------

const INGEST = "call_details_ingest";
const REPLAY = "call_details_replay";

const left = (seconds) => seconds === null || seconds === undefined ? "" : seconds < 120 ? `${number(seconds)} s`
  : seconds < 7200 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
const Bar = ({ part, whole, label }) => h("div.bar", { role: "progressbar", "aria-label": label, "aria-valuenow": part, "aria-valuemin": 0, "aria-valuemax": whole },
  h("div", { style: { width: `${whole ? Math.min(100, (100 * part) / whole) : 0}%` } }));

const Files = ({ actions }) => {
  const [get, change] = useAddress();
  const [cursor, setCursor] = useState(0);
  const [from, setFrom] = useState(0);
  const day = get("day");
  const waiting = useAsk(`ops/files/waiting${query({ cursor: from })}`);
  const running = useAsk("ops/files/under-way");
  const done = useAsk(`ops/files/done${query({ day, cursor })}`);
  const letters = useAsk("ops/files/dead-letters");
  const action = useAction();
  useEffect(() => {
    const timer = setInterval(() => { if (!document.hidden) { running.again(); waiting.again(); } }, 10000);
    return () => clearInterval(timer);
  }, [running.again, waiting.again]);
  const again = (row) => action.act(() => started(INGEST, { bucket: done.data.bucket, key: row.stored_as, force: true }));
  return h(Fragment,
    h(Strips, { asked: [waiting, running, done, letters] }), action.shown,
    h("h2", "Under way", running.data?.total !== undefined && h("span.dim", ` ${many(running.data.total, "file")}; ${number(running.data.permits) || 0} of ${number(running.data.permits_of)} permits in use`)),
    running.data?.rows && h(Table, {
      id: (row) => row.run_id + row.key, empty: "No file is under way.",
      columns: [
        ["File", (row) => h(Text, row.key)],
        ["Batches", (row) => row.batches === undefined ? h("span.dim", row.begun ? "planning" : "claimed") : h(Fragment, `${number(row.settled)} of ${number(row.batches)}`, h(Bar, { part: row.settled, whole: row.batches, label: `Batches of ${visible(row.key)}` }))],
        ["Records", (row) => row.records === undefined ? "" : `${number(row.records_settled)} of ${number(row.records)}`, "n"],
        ["Records/s", (row) => number(row.records_per_second), "n"],
        ["Time left", (row) => left(row.seconds_left), "n"],
        ["Dead", (row) => (row.dead ? h("span.bad", number(row.dead)) : ""), "n"],
        ["Run", (row) => row.run_id && h(Run, { dag: INGEST, run: row.run_id })],
      ], rows: running.data.rows,
    }),
    h("h2", "Waiting", waiting.data?.total !== undefined && h("span.dim", ` ${many(waiting.data.total, "file")}`)),
    waiting.data?.rows && h(Table, {
      id: (row) => row.key, empty: "No file waits.",
      columns: [["File", (row) => h(Text, row.key)], ["Size", (row) => bytes(row.bytes), "n"], ["For", (row) => age(row.since), "n"]], rows: waiting.data.rows,
    }),
    h(Pages, { data: waiting.data, cursor: from, onTurn: setFrom }),
    h("h2", { id: "dead-letters" }, "Dead letters", letters.data?.total !== undefined && h("span.dim", ` ${many(letters.data.total, "batch", "batches")}`)),
    letters.data?.rows && h(DeadLetters, { letters, actions }),
    h("div.row", h("h2", "Done"),
      h("input", { type: "date", value: done.data?.day || day, "aria-label": "Day of the files (UTC)", onChange: (event) => { setCursor(0); change({ day: event.target.value }); } })),
    done.data?.rows && h(Table, {
      id: (row) => row.stored_as, empty: "No file was done on this day.",
      columns: [
        ["File", (row) => h(Text, row.key || row.stored_as)],
        ["Outcome", (row) => row.outcome && h(Tag, { kind: row.outcome === "processed" ? "ok" : "bad" }, row.outcome), "w"],
        ["Size", (row) => bytes(row.bytes), "n"],
        ["Accepted", (row) => row.records_read === undefined || row.records_read === null ? "" : `${number(row.records_accepted)} of ${number(row.records_read)}`, "n"],
        ["Dead", (row) => (row.records_dead_lettered ? h("span.bad", number(row.records_dead_lettered)) : ""), "n"],
        ["At", (row) => time(row.at), "w"],
        ["Reason", (row) => h(Text, row.error)],
        ["Run", (row) => row.run_id && h(Run, { dag: INGEST, run: row.run_id })],
        ...(actions ? [["", (row) => h(Button, { disabled: action.busy, onClick: () => again(row) }, "Ingest again"), "w"]] : []),
      ], rows: done.data.rows,
    }),
    h(Pages, { data: done.data, cursor, onTurn: setCursor }));
};

const DeadLetters = ({ letters, actions }) => {
  const [file, setFile] = useState("");
  const [chosen, setChosen] = useState([]);
  const [plan, setPlan] = useState(null);
  const [open, setOpen] = useState(null);
  const [run, setRun] = useState(null);
  const action = useAction();
  const total = letters.data.total;
  const files = [...new Set(letters.data.rows.map((row) => row.file).filter(Boolean))];
  const only = files.includes(file) ? file : "";
  const rows = letters.data.rows.filter((row) => !only || row.file === only);
  const ready = rows.map((row) => row.idempotency_key).filter(Boolean);
  const taken = chosen.filter((key) => ready.includes(key));
  const of = only ? `${many(rows.length, "dead letter")} of ${visible(only)}` : many(total, "dead letter");
  // The run's state, and how many messages are left in the queue, asked until it has ended.
  useEffect(() => {
    if (!run || ["success", "failed"].includes(run.state)) return undefined;
    const timer = setTimeout(async () => {
      try {
        const [now, counts] = await Promise.all([
          ask(`api/v2/dags/${REPLAY}/dagRuns/${encodeURIComponent(run.id)}`), ask("ops/tonight", { fresh: true }).catch(() => null)]);
        const waiting = counts?.dead_letters?.batches ?? run.before;
        setRun({ ...run, state: now.state, note: now.note, gone: Math.max(run.gone, Math.min(run.whole, run.before - waiting)), asked: run.asked + 1 });
        if (["success", "failed"].includes(now.state)) letters.again();
      } catch { setRun({ ...run, asked: run.asked + 1 }); }
    }, 2000);
    return () => clearTimeout(timer);
  }, [run]);
  const start = () => action.act(async () => {
    const made = await startRun(REPLAY, plan.keys ? { dead_letters: plan.keys } : { limit: plan.count });
    setPlan(null);
    setChosen([]);
    setRun({ id: made.dag_run_id, state: made.state, note: null, before: total, whole: plan.count, gone: 0, asked: 0 });
    return null;
  });
  const toggle = (keys, on) => { setPlan(null); setChosen(on ? [...new Set([...chosen, ...keys])] : chosen.filter((key) => !keys.includes(key))); };
  return h(Fragment,
    action.shown,
    run && h(`div.strip.${run.state === "success" ? "good" : run.state === "failed" ? "bad" : "note"}`, { role: "status" },
      `Replay: ${run.state}. `, run.note ? `${visible(run.note.split("\n")[0].replaceAll("*", ""))}. ` : `${number(run.gone)} of ${number(run.whole)} accepted. `, h(Run, { dag: REPLAY, run: run.id }),
      !run.note && h(Bar, { part: run.gone, whole: run.whole, label: "Dead letters accepted" })),
    total > 0 && h("div.row",
      files.length > 1 && h("select", { value: only, "aria-label": "File of the dead letters", onChange: (event) => { setFile(event.target.value); setPlan(null); } },
        h("option", { value: "" }, "every file"), ...files.map((each) => h("option", { key: each, value: each }, visible(each)))),
      actions && h(Button, { disabled: taken.length === 0, onClick: () => setPlan({ keys: taken, count: taken.length, of }) }, `Replay ${number(taken.length)} chosen…`),
      actions && h(Button, { main: true, onClick: () => setPlan({ count: Math.min(total, 10000), of: many(total, "dead letter") }) }, "Replay all…")),
    plan && h("div.panel.row", { role: "status" }, h("b", `${number(plan.count)} of ${plan.of}: starts 1 run`),
      h("span.dim", "Each is posted again under its own idempotency key; what is refused again stays."),
      h(Button, { main: true, disabled: action.busy, onClick: start }, "Start the replay"), h(Button, { onClick: () => setPlan(null) }, "Cancel")),
    h(Table, {
      id: (row) => `${row.what} ${row.version_id}`, empty: total > 0 ? "Somebody else is looking at them or replaying them: refresh in a minute." : "No dead letters.",
      columns: [
        ...(actions ? [[h("input", { type: "checkbox", checked: ready.length > 0 && taken.length === ready.length, "aria-label": "Choose all", onChange: (event) => toggle(ready, event.target.checked) }),
          (row) => row.idempotency_key && h("input", { type: "checkbox", checked: chosen.includes(row.idempotency_key), "aria-label": `Choose ${visible(row.what)}`, onChange: (event) => toggle([row.idempotency_key], event.target.checked) }), "w"]] : []),
        ["File", (row) => h(Text, row.file || row.what)], ["Records", (row) => visible(row.records), "w"],
        ["Attempts", (row) => number(row.attempts), "n"], ["Status", (row) => visible(row.status), "n"],
        ["First failed", (row) => time(row.first), "w"], ["Error", (row) => h(Text, row.error)],
        ["", (row) => row.file && h(Button, { onClick: () => setOpen(row) }, "Body"), "w"],
      ], rows,
    }),
    open && h(Body, { path: `ops/files/dead-letters/body${query({ key: open.what, version: open.version_id })}`, title: open.what, onClose: () => setOpen(null) }));
};

// ---- Orders ---------------------------------------------------------------------------------------------------------

const AUCTION = "energy_auction";
const RESULTS = { accepted: "var(--ok)", rejected: "var(--warn)", errored: "var(--bad)", none: "var(--dim)" };
const resultOf = (run) => (run.errored ? "errored" : run.rejected ? "rejected" : run.total ? "accepted" : "none");

const DayOfRuns = ({ runs }) => {
  const slots = new Map();
  for (const run of runs) {
    const at = new Date(run.time);
    const slot = Math.floor((at.getUTCHours() * 60 + at.getUTCMinutes()) / 5);
    slots.set(slot, [...(slots.get(slot) || []), run]);
  }
  return h("svg.year", { viewBox: "0 0 604 46", role: "img", "aria-label": `${many(runs.length, "run")} of the day, five minutes each` },
    ...[0, 3, 6, 9, 12, 15, 18, 21].map((hour) => h("text", { key: `at ${hour}`, x: 2 + hour * 25, y: 8 }, `${String(hour).padStart(2, "0")}:00`)),
    ...Array.from({ length: 288 }, (_, slot) => {
      // A run that somebody started, too: neither hides the other.
      const some = slots.get(slot) || [];
      const sum = (name) => some.reduce((total, run) => total + (run[name] || 0), 0);
      const [total, rejected, errored] = [sum("total"), sum("rejected"), sum("errored")];
      const unread = some.some((run) => run.total === undefined);
      const result = some.length > 0 && !unread && resultOf({ total, rejected, errored });
      const text = `${String(Math.floor(slot / 12)).padStart(2, "0")}:${String((slot % 12) * 5).padStart(2, "0")} UTC`;
      return h("rect", { key: slot, x: 2 + slot * 2.0833, y: 12, width: 1.7, height: 28, fill: result ? RESULTS[result] : "var(--soft)", fillOpacity: result === "none" ? 0.4 : 1 },
        h("title", `${text}: ${unread ? "not read yet" : result ? `${many(total, "order")}, ${number(rejected)} rejected, ${number(errored)} failed` : "no run"}`));
    }));
};

// Of a run: what failed. Where nothing of that is why it failed, Airflow ended it at its limit, or somebody did by hand:
// then also what was skipped. The command line has the same rule (ops/runs.py, clear).
const tasksToClear = (run, tasks) => {
  const failed = tasks.filter((task) => task.state !== "skipped");
  // Not one of many, but the last task, or one that all others follow; and it failed since the run was cleared, if it was.
  const why = failed.some((task) => task.map_index < 0 && run.start_date && !(Date.parse(task.end_date) < Date.parse(run.start_date)));
  return run.state === "failed" && !why ? tasks : failed;
};

const Orders = ({ actions }) => {
  const [get, change] = useAddress();
  const [cursor, setCursor] = useState(0);
  const [result, setResult] = useState("");
  const day = get("day");
  const asked = useAsk(`ops/orders${query({ day, result, cursor })}`);
  const action = useAction();
  const data = asked.data?.rows ? asked.data : null;
  const clear = (row) => action.act(async () => {
    const [run, paused] = await Promise.all([ask(`api/v2/dags/${AUCTION}/dagRuns/${encodeURIComponent(row.run_id)}`), isPaused(AUCTION)]);
    // Named, as Airflow ignores include_downstream where no task is.
    const states = { dag_ids: [AUCTION], dag_run_ids: [row.run_id], state: ["failed", "upstream_failed", "skipped"], page_limit: 100 };
    const list = (offset) => ask("api/v2/dags/~/dagRuns/~/taskInstances/list", { method: "POST", body: { ...states, page_offset: offset } });
    const tasks = [];
    for await (const page of pagesOfTasks(list)) tasks.push(...page);
    const again = tasksToClear(run, tasks);
    if (!again.length) return `Nothing to clear: no task of the run has failed, and it is ${run.state}.`;
    const named = again.map((task) => (task.map_index < 0 ? task.task_id : [task.task_id, task.map_index]));
    const body = { dag_run_id: row.run_id, task_ids: named, only_failed: false, include_downstream: true, dry_run: false };
    const found = await ask(`api/v2/dags/${AUCTION}/clearTaskInstances`, { method: "POST", body });
    return h("span", `Cleared ${many(found.task_instances.length, "task")} of `, h(Run, { dag: AUCTION, run: row.run_id }), paused && `: they wait, as ${AUCTION} is paused`);
  });
  const sum = (name) => data.runs.reduce((total, run) => total + (run[name] || 0), 0);
  const go = (to) => { setCursor(0); change({ day: to }); };
  return h(Fragment,
    h(Strips, { asked: [asked] }), action.shown,
    asked.loading && h("p.dim", "Reading…"),
    data && h(Fragment,
      h("div.row", h("input", { type: "date", value: data.day, "aria-label": "Day (UTC)", onChange: (event) => go(event.target.value) }),
        h(Button, { onClick: () => go(shifted(data.day, -1)), "aria-label": "Day before" }, "‹"), h(Button, { onClick: () => go(shifted(data.day, 1)), "aria-label": "Day after" }, "›"),
        h("b", `${many(data.runs.length, "run")}, ${many(sum("total"), "order")}: ${number(sum("accepted"))} accepted, ${number(sum("rejected"))} rejected, ${number(sum("errored"))} failed`),
        asked.data.left_out.length > 0 && h(Button, { onClick: asked.again }, "Read the rest")),
      h("div.newest", h(DayOfRuns, { runs: data.runs })),
      h("div.legend", ...Object.entries(RESULTS).map(([name, fill]) => h("span", { key: name }, h("svg", { width: 10, height: 10 }, h("rect", { width: 10, height: 10, rx: 2, fill, fillOpacity: name === "none" ? 0.4 : 1 })),
        { accepted: "all accepted", rejected: "some rejected", errored: "some failed", none: "no orders" }[name]))),
      h("div.row", h("h2", "Orders that were not accepted"),
        h("select", { value: result, "aria-label": "Result", onChange: (event) => { setResult(event.target.value); setCursor(0); } },
          h("option", { value: "" }, "rejected and failed"), h("option", { value: "rejected" }, "rejected"), h("option", { value: "errored" }, "failed")),
        h("a", { href: address(`ops/orders/csv${query({ day: data.day })}`), download: "" }, "CSV")),
      h(Table, {
        id: (row) => row.order_id, empty: "Every order of the day was accepted.",
        columns: [
          ["Time", (row) => time(row.time), "w"], ["Index", (row) => number(row.index), "n"],
          ["Order", (row) => h(Text, { mono: true }, row.order_id)],
          ["Result", (row) => h(Tag, { kind: row.result === "rejected" ? "warn" : "bad" }, row.result === "errored" ? "failed" : row.result), "w"],
          ["Reason", (row) => h(Text, String(row.reason ?? "").replace(row.order_id, "…"))],
          ["Alerted", (row) => (row.alerted.length ? visible(row.alerted.join(", ")) : h("span.dim", "not recorded")), "w"],
          ["Run", (row) => h(Run, { dag: AUCTION, run: row.run_id }, `${visible(row.run_id).split("__")[0]} run`), "w"],
          ["Log", (row) => h(Log, { dag: AUCTION, run: row.run_id, task: "process_order", number: row.index }), "w"],
          ...(actions ? [["", (row) => row.result === "errored" && h(Button, { disabled: action.busy, onClick: () => clear(row) }, "Clear"), "w"]] : []),
        ], rows: data.rows,
      }),
      h(Pages, { data, cursor, onTurn: setCursor })));
};

// ---- Events ---------------------------------------------------------------------------------------------------------

const Events = ({ actions }) => {
  const [get, change] = useAddress();
  const [text, setText] = useState(get("owner"));
  const [cursors, setCursors] = useState([""]);
  const owner = get("owner");
  const asked = useAsk(owner ? null : `ops/events/owners${query({ cursor: cursors[cursors.length - 1] })}`);
  const data = asked.data?.rows ? asked.data : null;
  const show = (name) => { setText(name); change({ owner: name, status: null }); };
  return h(Fragment,
    h("form.row", { role: "search", onSubmit: (event) => { event.preventDefault(); show(text.trim()); } },
      h("input", { value: text, size: 30, placeholder: "Owner", "aria-label": "Owner", onChange: (event) => setText(event.target.value) }),
      h("button.b.main", { type: "submit" }, "Show"),
      owner && h(Button, { onClick: () => { setText(""); change({ owner: null, status: null }); } }, "All owners")),
    h(Strips, { asked: [asked] }),
    asked.loading && h("p.dim", "Reading…"),
    owner && h(OneOwner, { key: owner, owner, actions }),
    !owner && data && h(Fragment,
      h(Table, {
        id: (row) => row.owner, empty: "No owner has a webhook. Events of others wait in their inbox: name the owner above.",
        columns: [
          ["Owner", (row) => h("a", { href: "#", onClick: (event) => { event.preventDefault(); show(row.owner); } }, visible(row.owner)), "w"],
          ["Pending", (row) => visible(typeof row.pending === "number" ? number(row.pending) : row.pending), "n"],
          ["Oldest", (row) => (row.oldest ? age(row.oldest.created_at) : ""), "n"],
          ["Failed", (row) => h("span", { className: row.failed ? "bad" : undefined }, typeof row.failed === "number" ? number(row.failed) : row.failed), "n"],
          ["Last status", (row) => visible(row.last_status), "n"],
          ["Last error", (row) => h(Text, row.last_error)],
          ["Webhook", (row) => h(Fragment, h(Tag, { kind: row.active ? "ok" : "warn" }, row.active ? "on" : "off"), " ", h("span.dim", h(Text, row.reason)))],
        ], rows: data.rows,
      }),
      h(Turns, { next: data.next, cursors, setCursors })));
};

// Pages of a list whose cursors only lead on.
const Turns = ({ next, cursors, setCursors }) => (next || cursors.length > 1) && h("div.row",
  h(Button, { disabled: cursors.length === 1, onClick: () => setCursors(cursors.slice(0, -1)) }, "Back"),
  h("span.dim", `page ${cursors.length}`),
  h(Button, { disabled: !next, onClick: () => setCursors([...cursors, next]) }, "Next"));

const OneOwner = ({ owner, actions }) => {
  const [get, change] = useAddress();
  const status = get("status") || "pending";
  const [cursors, setCursors] = useState([""]);
  const [since, setSince] = useState(() => new Date(Date.now() - 86400000).toISOString().slice(0, 16));
  const [plan, setPlan] = useState(null);
  const [open, setOpen] = useState(null);
  const asked = useAsk(`ops/events/owner${query({ owner, status, cursor: cursors[cursors.length - 1] })}`);
  const action = useAction();
  const data = asked.data?.rows ? asked.data : null;
  const post = (path, body) => action.act(async () => {
    const found = await ask(`ops/events/${path}`, { method: "POST", body });
    setPlan(null);
    asked.again();
    if (lacking(found)) throw new Error(`${found.replayed ? `${many(found.replayed, "event")} pending again; ` : ""}${lacking(found)}`);
    return found.event_id ? h(Fragment, "Test event ", h(Text, { mono: true }, found.event_id), " is stored; the next run posts it, behind what waits for this owner.")
      : found.replayed === undefined ? `The webhook of ${visible(owner)} is ${found.active ? "on" : "off"}.`
      : `${many(found.replayed, "event")} pending again${found.changed_meanwhile ? `; ${number(found.changed_meanwhile)} left, as changed meanwhile` : ""}.`;
  });
  const count = () => action.act(async () => {
    const found = await ask(`ops/events/failed${query({ owner, since: `${since}:00Z` })}`, { fresh: true });
    if (lacking(found)) throw new Error(lacking(found));
    setPlan(found);
    return null;
  });
  const attempts = (row) => h("table", h("tbody", ...row.attempts.slice().reverse().map((each, index) => h("tr", { key: index },
    h("td.w", time(each.time)), h("td.n", visible(each.status ?? "no answer")), h("td.n", `${number(each.milliseconds)} ms`), h("td", h(Text, each.cause))))));
  return h(Fragment,
    h(Strips, { asked: [asked] }), action.shown,
    asked.loading && h("p.dim", "Reading…"),
    data && h(Fragment,
      h("div.row", h("h2", h(Text, owner)),
        data.webhook ? h(Fragment, h(Tag, { kind: data.webhook.active ? "ok" : "warn" }, `webhook ${data.webhook.active ? "on" : "off"}`), h("span.mono", visible(data.webhook.url)), h("span.dim", h(Text, data.webhook.reason)))
          : h("span.dim", "no webhook: events wait in the inbox"),
        actions && data.webhook && h(Button, { disabled: action.busy, onClick: () => post("webhook", { owner, active: !data.webhook.active }) }, data.webhook.active ? "Switch off" : "Switch on"),
        actions && data.webhook?.active && h(Button, { disabled: action.busy, onClick: () => post("test", { owner }) }, "Send a test event")),
      h("div.row", { role: "tablist" }, ...Object.entries(data.counts).map(([name, total]) =>
        h("button.b", { key: name, type: "button", role: "tab", "aria-selected": name === status, className: name === status ? "main" : undefined,
          onClick: () => { setCursors([""]); change({ status: name }); } }, `${name} ${typeof total === "number" ? number(total) : visible(total)}`))),
      actions && status === "failed" && h("form.row", { onSubmit: (event) => { event.preventDefault(); count(); } },
        h("label", "Failed since ", h("input", { type: "datetime-local", value: since, "aria-label": "Failed since (UTC)", onChange: (event) => { setSince(event.target.value); setPlan(null); } }), " UTC"),
        h("button.b", { type: "submit", disabled: action.busy }, "Count"),
        plan && h(Button, { main: true, disabled: action.busy || plan.count === 0, onClick: () => post("replay-failed", { owner, since: `${since}:00Z` }) }, `Replay ${many(plan.count, "event")}`),
        plan?.more && h("span.dim", "More have failed: count again afterwards.")),
      h(Table, {
        id: (row) => row.event_id, empty: `No event is ${status}.`,
        columns: [
          ["Event", (row) => h(Text, { mono: true }, row.event_id)], ["Type", (row) => h(Text, row.event_type)],
          ["Created", (row) => time(row.created_at), "w"],
          ["Attempts", (row) => row.attempts.length ? h(Button, { "aria-expanded": open === row.event_id, onClick: () => setOpen(open === row.event_id ? null : row.event_id) }, number(row.delivery_attempts)) : number(row.delivery_attempts), "n"],
          ["Next attempt", (row) => (row.next_attempt_at ? time(row.next_attempt_at) : ""), "w"],
          ["Last status", (row) => visible(row.last_status), "n"],
          ["Last error", (row) => h(Fragment, h(Text, row.last_error), open === row.event_id && attempts(row))],
          ...(actions && status === "failed" ? [["", (row) => h(Button, { disabled: action.busy, onClick: () => post("replay", { owner, event_id: row.event_id }) }, "Replay"), "w"]] : []),
        ], rows: data.rows,
      }),
      h(Turns, { next: data.next, cursors, setCursors })));
};

// ---- Tonight --------------------------------------------------------------------------------------------------------

// Name, and which dead letters.
const PIPELINES = { [ARCHIVE]: ["Archive"], [AUCTION]: ["Auction"], [INGEST]: ["Call details", "batches"], event_delivery: ["Events", "events"] };
// What starts a pipeline's runs, where that is another DAG.
const STARTED_BY = { [INGEST]: "call_details_watch" };
const Runbook = ({ url, section }) => /^https?:/.test(url || "") ? h("a", { href: `${url}#${section}`, target: "_blank", rel: "noreferrer" }, "runbook")
  : h("span", `${visible(url)}#${section}`);

const useOptions = () => useAsk("ops/options");

const tonight = async (signal) => {
  const day = new Date(Date.now() - 86400000).toISOString();
  const list = (dags, states, extra) => ask(`api/v2/dags/~/dagRuns/list`, { method: "POST", signal, body: { dag_ids: dags.filter(Boolean), states, order_by: "-run_after", page_limit: 1, ...extra } });
  return Promise.all(Object.keys(PIPELINES).map(async (dag) => {
    const [info, good, bad, starter] = await Promise.all([
      ask(`api/v2/dags/${dag}`, { signal }), list([dag], ["success"]),
      // By their end: a backfill that failed tonight is for a day long ago, and a run may have been cleared.
      list([dag, STARTED_BY[dag]], ["failed"], { end_date_gte: day, order_by: "-end_date" }),
      STARTED_BY[dag] && ask(`api/v2/dags/${STARTED_BY[dag]}`, { signal })]);
    const due = info.next_dagrun_run_after ? Date.parse(info.next_dagrun_run_after) : null;
    return { dag, paused: info.is_paused ? dag : starter?.is_paused ? starter.dag_id : null, last: good.dag_runs[0], late: due && !info.is_paused && due < Date.now() - 60000 ? due : null, failed: bad.total_entries, failure: bad.dag_runs[0] };
  }));
};

globalThis.Tonight = function Tonight() {
  const [runs, setRuns] = useState({ rows: null, error: null });
  const asked = useAsk("ops/tonight");
  const options = useOptions();
  useEffect(() => {
    const control = new AbortController();
    tonight(control.signal).then((rows) => setRuns({ rows, error: null }), (error) => error.name === "AbortError" || setRuns({ rows: null, error: error.message }));
    return () => control.abort();
  }, []);
  const oldest = asked.data?.oldest_due;
  const entry = (row) => row.failed && row.failure.dag_id !== row.dag ? "airflow-unreported-failure" : `${row.dag.replaceAll("_", "-")}-${row.failed ? "failed" : "no"}-run`;
  const section = (row) => (row.failed || row.late ? entry(row) : "dead-letters");
  const letters = (row) => asked.data?.dead_letters?.[PIPELINES[row.dag][1]];
  return h("section.ops.panel", { "aria-label": "Tonight" },
    h("style", STYLE),
    h("div.row", h("h2", "Tonight"), h(Link, { to: "/plugin/operations" }, "Operations")),
    h(Strips, { asked: [asked, options], errors: [runs.error] }),
    runs.rows && h(Table, {
      id: (row) => row.dag,
      columns: [
        ["Pipeline", (row) => h(Link, { to: `/plugin/operations/${options.data?.views[row.dag] ?? ""}` }, PIPELINES[row.dag][0]), "w"],
        ["Last good run", (row) => (row.last ? h(Run, { dag: row.dag, run: row.last.dag_run_id }, `${age(row.last.end_date || row.last.run_after)} ago`) : h("span.dim", "none")), "w"],
        ["Late", (row) => row.paused ? h(Tag, { kind: "warn" }, "paused") : row.late ? h(Tag, { kind: "bad" }, age(row.late)) : "", "w"],
        ["Failed, 24 h", (row) => (row.failed ? h(Run, { dag: row.failure.dag_id, run: row.failure.dag_run_id }, h("span.bad", number(row.failed))) : "0"), "n"],
        ["Dead letters", (row) => (letters(row) ? h("span.bad", number(letters(row))) : number(letters(row))), "n"],
        ["Oldest pending", (row) => (row.dag === "event_delivery" && oldest ? `for ${age(oldest.due)}` : ""), "w"],
        ["What to do", (row) => row.paused ? h(Link, { to: `/dags/${row.paused}` }, row.paused === row.dag ? "unpause it" : `unpause ${row.paused}`) : row.failed || row.late || letters(row) ? h(Runbook, { url: options.data?.runbook, section: section(row) }) : h("span.dim", "nothing")],
      ], rows: runs.rows,
    }));
};

// ---- the page -------------------------------------------------------------------------------------------------------

const VIEWS = {
  evidence: ["Evidence", Evidence], days: ["Days", Days], files: ["Files", Files], orders: ["Orders", Orders], events: ["Events", Events],
};

// Airflow renders a page that it has just imported as another component than the next time, which empties the page at
// the first click. So the first click is made here, before anybody has typed anything.
let settled = false;

globalThis.Operations = function Operations({ dagId }) {
  const rest = useParams()["*"] || "";
  const { pathname, search } = useLocation();
  const navigate = useNavigate();
  const [round, setRound] = useState(0);
  useEffect(() => {
    if (!settled) { settled = true; navigate(`${pathname}${search}`, { replace: true }); }
  }, [navigate, pathname, search]);
  const refresh = () => { freshUntil = Date.now() + 2000; setRound(round + 1); };
  const options = useOptions();
  // A DAG's page has this one as a tab.
  const name = dagId ? options.data?.views[dagId] : rest.split("/")[0] || "evidence";
  const View = VIEWS[name]?.[1];
  return h("main.ops",
    h("style", STYLE),
    h("nav.tabs", { "aria-label": "Views" }, ...Object.entries(VIEWS).map(([key, [title]]) =>
      h(Link, { key, to: `/plugin/operations/${key}`, "aria-current": key === name ? "page" : undefined }, title)),
    h("button.refresh", { type: "button", title: "Answers are kept for 30 seconds", onClick: refresh }, "Refresh")),
    h(Strips, { asked: [options] }),
    dagId && !View ? options.data && h("p.dim", "This DAG has no view here.") : View ? h(View, { key: `${name} ${round}`, actions: options.data?.actions === true }) : h("p", "There is no such view."));
};
