"use strict";
// The report. Rules: the data of #data becomes text nodes and attributes, never markup; nothing is judged
// here. Only what is seen is made: lists grow by the page, the timeline draws the lanes and leases of its
// window. Parts: making elements, the data, words, lists and filters, at a glance, the timeline, tasks,
// messages, agents and keys, the audit, records, one task, all of it, live.
(() => {
  const SVG = "http://www.w3.org/2000/svg",
    PAGE = 50,
    LANES = 40,
    SECOND = 1000,
    MINUTE = 60 * SECOND,
    HOUR = 60 * MINUTE,
    DAY = 24 * HOUR,
    PAUSE = 3 * SECOND;
  const byId = (id) => document.getElementById(id);

  // -- making elements

  function fill(element, attributes, children) {
    for (const [name, value] of Object.entries(attributes || {})) {
      if (value === null || value === undefined || value === false) continue;
      if (name === "on")
        for (const [event, act] of Object.entries(value)) element.addEventListener(event, act);
      else element.setAttribute(name, value === true ? "" : value);
    }
    element.append(
      ...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== ""),
    );
    return element;
  }
  const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
  const s = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);
  const put = (element, ...children) => {
    element.replaceChildren();
    return fill(element, null, children);
  };
  const named = (task) => (Object.hasOwn(data.names, task) ? data.names[task] : task);
  const foreign = (text, kind = "") => h("span", { class: `foreign ${kind}`, dir: "auto" }, text);

  // -- the data

  let data, colours, taskOf, leasesOf, recordsOf, recordAt;

  function unfold(table) {
    return table.rows.map((row) => Object.fromEntries(table.columns.map((name, at) => [name, row[at]])));
  }

  function read(raw) {
    data = raw;
    for (const name of ["tasks", "leases", "records", "messages", "keys"]) data[name] = unfold(raw[name]);
    data.now = Date.parse(data.made_at);
    data.end = data.until ? Math.min(data.now, Date.parse(data.until)) : data.now;
    for (const lease of data.leases) {
      for (const name of ["start", "end", "until"]) lease[name] = Date.parse(lease[name]);
    }
    for (const record of data.records) record.time = Date.parse(record.at);
    const agents = [
      ...new Set([...data.agents.map((one) => one.agent), ...data.leases.map((one) => one.agent)]),
    ];
    colours = new Map(agents.sort().map((name, at) => [name, at % 10]));
    taskOf = new Map(data.tasks.map((task) => [task.task, task]));
    leasesOf = grouped(data.leases, (one) => [one.task]);
    recordsOf = grouped(data.records, (one) => one.tasks);
    recordAt = new Map([...data.keys, ...data.records].map((record) => [record.seq, record]));
  }

  function grouped(items, keysOf) {
    const found = new Map();
    for (const item of items) {
      for (const key of keysOf(item)) {
        if (!found.has(key)) found.set(key, []);
        found.get(key).push(item);
      }
    }
    return found;
  }

  // -- words

  const day = (time) => new Date(time).toISOString().slice(0, 10);
  const clock = (time) => new Date(time).toISOString().slice(11, 16);
  const DAYS = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
  const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
  const dayName = (time) => {
    const at = new Date(time);
    return `${DAYS[at.getUTCDay()]} ${at.getUTCDate()} ${MONTHS[at.getUTCMonth()]}`;
  };
  const many = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;

  function span(milliseconds) {
    const all = Math.max(0, Math.round(milliseconds / SECOND));
    if (all < 60) return `${all} s`;
    const [d, hr, m] = [Math.floor(all / 86400), Math.floor(all / 3600) % 24, Math.floor(all / 60) % 60];
    if (d) return hr ? `${d} d ${hr} h` : `${d} d`;
    if (hr) return m ? `${hr} h ${m} min` : `${hr} h`;
    return `${m} min`;
  }
  const seconds = (number) => (number === null || number === undefined ? "–" : span(number * SECOND));

  function when(time) {
    const at = typeof time === "string" ? Date.parse(time) : time,
      here = data.now - at;
    const shown = day(at) === day(data.now) ? clock(at) : `${dayName(at)}, ${clock(at)}`;
    const relative = here >= 0 ? `${span(here)} ago` : `in ${span(-here)}`;
    return h(
      "time",
      { datetime: new Date(at).toISOString(), title: `${new Date(at).toISOString()} (${relative})` },
      shown,
    );
  }
  const ago = (time) => {
    const at = typeof time === "string" ? Date.parse(time) : time;
    const node = when(at);
    node.textContent = at <= data.now ? `${span(data.now - at)} ago` : `in ${span(at - data.now)}`;
    return node;
  };

  const KIND_OF_CHECK = { here: ["good", "✓"], server: ["fair", "◆"], nobody: ["warn", "?"] };
  const MEANS = {
    here: "checked here, with a key that is at hand",
    server: "checked by the server: its hook has vouched for it",
    nobody: "checked by nobody: there is no key here for it, and no server has vouched",
  };
  function check(one) {
    if (one.verdict === "invalid" || one.verdict === "unknown-key") {
      return h("span", { class: "mark bad", title: "does not verify" }, "✗ ", one.verdict);
    }
    const [kind, sign] = KIND_OF_CHECK[one.checked] || ["", ""];
    return h(
      "span",
      { class: `mark ${kind}`, title: MEANS[one.checked] },
      h("span", { "aria-hidden": "true" }, sign),
      one.checked,
    );
  }
  const STATUS = { open: "fair", claimed: "strong", expired: "bad", done: "good", withdrawn: "" };
  const status = (task) => h("span", { class: `mark ${STATUS[task.status] || ""}` }, task.status);
  const who = (agent, session) =>
    h(
      "span",
      { class: `who c${colours.get(agent) ?? 8}` },
      h("i", { class: "dot" }),
      foreign(agent),
      session ? h("span", { class: "faint" }, `/${session}`) : null,
    );

  function taskLink(name) {
    return h(
      "button",
      { type: "button", class: "plain mono", on: { click: () => open(name) } },
      foreign(named(name)),
    );
  }
  const short = (text, most) => {
    const letters = [...text];
    if (letters.length <= most) return text;
    const end = Math.floor((most - 1) / 2);
    return `${letters.slice(0, most - 1 - end).join("")}…${end ? letters.slice(-end).join("") : ""}`;
  };

  const ENDED = {
    done: "done",
    "gave back": "given back",
    forced: "released by force",
    withdrawn: "withdrawn",
    "was handed": "handed over",
    expired: "expired",
    held: "held now",
  };
  function moved(record, before) {
    const ended = span(record.time ? record.time - Date.parse(before.expires_at) : 0);
    const lasted = span((record.time || 0) - Date.parse(before.claimed_at)),
      own = before.agent === record.agent;
    return (
      {
        "took over": own
          ? `claimed again: its own lease had ended ${ended} earlier`
          : `took over from ${before.agent}, whose lease had ended ${ended} earlier`,
        "was handed": `took over from ${before.agent}, who had offered it`,
        forced: `by force from ${before.agent}`,
        done: `after ${lasted}`,
        withdrawn: `the lease of ${before.agent} had ended ${ended} earlier`,
      }[before.what] || ""
    );
  }
  const isNone = (oid) => !oid || /^0+$/.test(oid);
  const movedRef = (record) =>
    isNone(record.new)
      ? "deleted"
      : isNone(record.old)
        ? `made at ${record.new.slice(0, 12)}`
        : `${record.old.slice(0, 12)}..${record.new.slice(0, 12)}`;
  function said(record) {
    const words = record.before
      .map((before) => (record.tasks.length > 1 ? `${named(before.task)}: ` : "") + moved(record, before))
      .filter((text) => !text.endsWith(": ") && text);
    if (record.ref) words.push(`${record.ref} ${movedRef(record)}`);
    if (record.legacy) words.push(`imported from ${record.legacy.source}, by the word of ${record.agent}`);
    if (record.kind === "handoff" || (record.kind === "send" && record.to)) words.push(`to ${record.to}`);
    else if (record.channel) words.push(`to #${record.channel}`);
    if (!record.tasks.length && record.kind !== "send") words.push(record.subject);
    else if (record.text && !record.ref) words.push(record.text);
    return words.join("; ");
  }

  // -- lists that grow by the page

  function list(box, items, row, { head = null, none, size = PAGE }) {
    const shown = Math.min(items.length, Math.max(size, Number(box.dataset.shown) || 0));
    box.replaceChildren();
    if (!items.length) {
      box.append(h("p", { class: "empty" }, none));
      return;
    }
    const body = head ? h("tbody") : h("div", { class: box.dataset.class || null });
    body.append(...items.slice(0, shown).map(row));
    box.append(
      head
        ? h(
            "table",
            { class: "table stacks" },
            h(
              "thead",
              {},
              h(
                "tr",
                {},
                head.map((name) =>
                  h(
                    "th",
                    { scope: "col", class: typeof name === "string" ? null : name[1] },
                    typeof name === "string" ? name : name[0],
                  ),
                ),
              ),
            ),
            body,
          )
        : body,
    );
    let count = shown;
    const left = () => `${(items.length - count).toLocaleString("en")} more`;
    if (count < items.length) {
      const rest = h("span", { class: "note" }, left());
      const grow = (by) => {
        const first = row(items[count]);
        body.append(first, ...items.slice(count + 1, count + by).map(row));
        count = Math.min(items.length, count + by);
        box.dataset.shown = count;
        rest.textContent = left();
        if (count >= items.length) bar.remove();
        first.querySelector("button, a")?.focus({ preventScroll: true });
      };
      const bar = h(
        "p",
        { class: "more" },
        h(
          "button",
          { type: "button", on: { click: () => grow(size * 2) } },
          `Show ${Math.min(size * 2, items.length - count)} more`,
        ),
        rest,
      );
      box.append(bar);
    }
  }
  const cell = (label, kind, ...children) =>
    h("td", { class: kind, "data-label": label || null }, ...children);

  // -- filters: a name for each, and what is chosen; kept while new data comes

  const chosen = {};
  function filters(place, spec, redraw) {
    const state = (chosen[place] ||= {}),
      box = byId(`${place}-tools`);
    box.replaceChildren();
    for (const [name, one] of Object.entries(spec)) {
      if (one.search) {
        const field = h("input", {
          type: "search",
          placeholder: one.search,
          "aria-label": one.search,
          value: state[name] || null,
        });
        let waits;
        field.addEventListener("input", () => {
          clearTimeout(waits);
          waits = setTimeout(() => {
            state[name] = field.value.trim().toLowerCase();
            redraw();
          }, 120);
        });
        box.append(field);
      } else if (one.chips) {
        const group = h("span", { class: "joined", role: "group", "aria-label": one.label });
        for (const [value, count] of one.chips) {
          const chip = h(
            "button",
            { type: "button", "aria-pressed": String(state[name] === value) },
            value,
            " ",
            h("span", { class: "faint" }, count.toLocaleString("en")),
          );
          chip.addEventListener("click", () => {
            state[name] = state[name] === value ? undefined : value;
            for (const other of group.children) other.setAttribute("aria-pressed", "false");
            chip.setAttribute("aria-pressed", String(state[name] === value));
            redraw();
          });
          group.append(chip);
        }
        box.append(group);
      } else if (one.values.length > 1 || state[name]) {
        const choice = h(
          "select",
          { "aria-label": one.label },
          h("option", { value: "" }, one.label),
          one.values.map((value) => h("option", { value, selected: state[name] === value }, value)),
        );
        choice.addEventListener("change", () => {
          state[name] = choice.value || undefined;
          redraw();
        });
        box.append(choice);
      }
    }
    return state;
  }
  const tally = (items, of) => {
    const counts = new Map();
    for (const item of items)
      for (const key of [of(item)].flat()) counts.set(key, (counts.get(key) || 0) + 1);
    return counts;
  };
  const has = (words, ...texts) => !words || texts.some((text) => text && text.toLowerCase().includes(words));

  // -- at a glance

  function overview() {
    const statuses = tally(data.tasks, (task) => task.status),
      total = data.stats.total;
    const blocked = data.tasks.filter((task) => task.waits_for.length).length;
    const tile = (what, figure, more, kind = "") =>
      h(
        "div",
        { class: `tile ${kind}` },
        h("div", { class: "what" }, what),
        h("div", { class: "figure" }, figure),
        h("div", { class: "more" }, more),
      );
    const checks = tally(data.records, (one) =>
      ["invalid", "unknown-key"].includes(one.verdict) ? "bad" : one.checked,
    );
    const shown = ["here", "server", "nobody", "bad"].filter((name) => checks.get(name));
    const meter = h("div", { class: "meter", "aria-hidden": "true" });
    for (const name of shown) {
      const part = h("i", { class: name });
      part.style.flex = `${checks.get(name)} 0 0`;
      meter.append(part);
    }
    const held = statuses.get("claimed") || 0,
      expired = statuses.get("expired") || 0;
    put(
      byId("overview"),
      tile("Held now", held.toLocaleString("en"), expired ? `${expired} more expired` : "no lease is over"),
      tile(
        "Open",
        (statuses.get("open") || 0).toLocaleString("en"),
        blocked ? `${blocked} of them blocked` : "none blocked",
      ),
      tile(
        "Done",
        (statuses.get("done") || 0).toLocaleString("en"),
        `${total.per_day.toLocaleString("en", { maximumFractionDigits: 1 })} a day`,
      ),
      tile(
        "Takes",
        seconds(total.duration.median),
        `median; 95 of 100 within ${seconds(total.duration.p95)}`,
      ),
      h(
        "div",
        { class: "tile wide" },
        h("div", { class: "what" }, `Who checked these ${many(data.records.length, "record")}`),
        meter,
        h(
          "div",
          { class: "counts" },
          shown.map((name) =>
            h(
              "span",
              {},
              name === "bad"
                ? h("span", { class: "mark bad" }, "✗ bad")
                : check({ checked: name, verdict: "" }),
              ` ${checks.get(name).toLocaleString("en")}`,
            ),
          ),
        ),
        h(
          "div",
          { class: "more" },
          data.audit.problems.length
            ? h(
                "a",
                { href: "#audit" },
                `${many(data.audit.problems.length, "record")} did not pass the audit`,
              )
            : [h("a", { href: "#audit" }, "The audit"), " found nothing wrong"],
        ),
      ),
    );
    for (const place of document.querySelectorAll("[data-count]")) {
      const count = {
        tasks: data.tasks,
        messages: data.messages,
        agents: data.agents,
        records: data.records,
        keys: data.agents.flatMap((one) => one.keys),
      }[place.dataset.count].length;
      place.textContent = count.toLocaleString("en");
    }
  }

  // -- the timeline

  const view = { lanes: null, from: 0, to: 0, all: [0, 0], most: LANES, words: "", follows: true };
  const SIGNS = {
    done: ["M-3.2 .2 L-1 2.6 L3.4 -2.4", "done"],
    "gave back": ["M2.6 -1.4 H-1.6 M-1.6 -1.4 L.2 -3.4 M-1.6 -1.4 L.2 .6 M2.6 -1.4 V2.6 H-1.4", "given back"],
    forced: ["M0 -3.6 V.9 M0 3.2 V3.4", "released by force"],
    expired: ["M-2.4 -2.4 L2.4 2.4 M2.4 -2.4 L-2.4 2.4", "lease expired"],
    "was handed": ["M-3 0 H2.8 M.4 -2.6 L3 0 L.4 2.6", "handed over"],
    withdrawn: ["M-2.8 0 H2.8", "withdrawn"],
  };
  function sign(what, x, y) {
    const [path, name] = SIGNS[what];
    return s(
      "g",
      { class: `sign ${what.replace(" ", "-")}`, transform: `translate(${x} ${y})` },
      s("title", {}, name),
      s("circle", { r: 6.5 }),
      s("path", { d: path }),
    );
  }
  const landing = (x, y, text) =>
    s(
      "g",
      { class: "sign land", transform: `translate(${x} ${y})` },
      s("title", {}, text),
      s("path", { d: "M0 -6.5 L5.5 3.5 H-5.5 Z" }),
    );

  function bounds() {
    const starts = data.leases.map((one) => one.start),
      times = data.records.map((one) => one.time);
    let from = data.end,
      to = data.end;
    for (const time of starts) from = Math.min(from, time);
    for (const time of times) {
      if (time < from) from = time;
      if (time > to) to = time;
    }
    for (const one of data.leases)
      if (one.ended === "held" && data.end === data.now)
        to = Math.max(to, Math.min(one.until, data.end + 2 * HOUR));
    if (data.since) from = Math.max(from, Math.min(Date.parse(data.since), data.end - MINUTE));
    const room = Math.max(MINUTE, (to - from) * 0.015);
    return [from - room, to + room];
  }
  function show(from, to) {
    const [first, last] = view.all,
      width = Math.min(Math.max(to - from, 2 * MINUTE), last - first);
    view.from = Math.max(first, Math.min(from, last - width));
    view.to = view.from + width;
    drawSoon();
  }
  const middle = () => (view.from + view.to) / 2;
  function zoom(factor, around = middle()) {
    view.follows = false;
    show(around - (around - view.from) * factor, around + (view.to - around) * factor);
  }
  let waiting = false;
  function drawSoon() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      draw();
    });
  }

  const STEPS = [
    MINUTE,
    2 * MINUTE,
    5 * MINUTE,
    10 * MINUTE,
    15 * MINUTE,
    30 * MINUTE,
    HOUR,
    2 * HOUR,
    3 * HOUR,
    6 * HOUR,
    12 * HOUR,
    DAY,
    2 * DAY,
    7 * DAY,
    14 * DAY,
    28 * DAY,
    91 * DAY,
    364 * DAY,
  ];
  const BAR = 18,
    ROW = 25;

  function lanesOf(leases) {
    const groups = [...grouped(leases, (one) => [view.lanes === "task" ? one.task : one.agent])];
    if (view.lanes === "agent") groups.sort(([a], [b]) => (a < b ? -1 : 1));
    return groups.map(([name, held]) => ({ name, rows: packed(held) }));
  }
  // Rows in which no lease covers another.
  function packed(leases) {
    const rows = [];
    for (const one of leases) {
      let row = rows.find((other) => other.end <= one.start);
      if (!row) rows.push((row = { leases: [], end: 0 }));
      row.leases.push(one);
      row.end = one.ended === "held" ? Math.max(one.until, one.end) : one.end;
    }
    return rows.map((row) => row.leases);
  }

  function draw() {
    const chart = byId("chart"),
      width = Math.max(300, chart.clientWidth),
      narrow = width < 620;
    const gutter = narrow ? 0 : Math.min(230, Math.round(width * 0.2)),
      top = 62,
      right = 10;
    const scale = (width - gutter - right) / (view.to - view.from),
      x = (time) => gutter + (time - view.from) * scale;
    const inside = data.leases.filter((one) => {
      const end = one.ended === "held" ? Math.max(one.end, one.until) : one.end;
      return (
        end >= view.from &&
        one.start <= view.to &&
        has(view.words, named(one.task), one.agent, taskOf.get(one.task)?.title)
      );
    });
    const lanes = lanesOf(inside),
      drawn = view.lanes === "task" ? lanes.slice(-view.most) : lanes.slice(0, view.most);
    const focused = document.activeElement?.dataset?.lease;
    let y = top;
    for (const lane of drawn) {
      lane.y = y;
      lane.head = narrow ? 17 : 0;
      lane.height = lane.head + lane.rows.length * ROW + (narrow ? 4 : 0);
      y += lane.height;
    }
    const height = Math.max(y, top + ROW) + 6;
    const svg = s("svg", {
      viewBox: `0 0 ${width} ${height}`,
      height,
      role: "group",
      "aria-label": `Timeline from ${day(view.from)} ${clock(view.from)} to ${day(view.to)} ${clock(view.to)} UTC: ${many(inside.length, "lease")} in ${many(lanes.length, "lane")}`,
    });
    drawn.forEach((lane, at) =>
      svg.append(
        s("rect", {
          class: `lane ${at % 2 ? "odd" : ""}`,
          x: 0,
          y: lane.y,
          width,
          height: lane.height,
          rx: 4,
        }),
      ),
    );
    axis(svg, x, scale, top, height, gutter, width);
    overviewStrip(svg, gutter, width - right);
    const clip = s("g", { "clip-path": "url(#within)" });
    svg.append(
      s(
        "clipPath",
        { id: "within" },
        s("rect", { x: gutter - 8, y: top - 2, width: width - gutter + 8, height: height - top + 2 }),
      ),
    );
    const places = new Map(),
      landed = grouped(
        data.records.filter((one) => one.kind === "land" && one.time >= view.from && one.time <= view.to),
        (one) => one.tasks,
      );
    const connectors = s("g"),
      bars = s("g"),
      signs = s("g");
    for (const lane of drawn) {
      svg.append(laneName(lane, gutter, narrow));
      if (view.lanes === "task") waits(clip, lane, x);
      lane.rows.forEach((row, at) => {
        const base = lane.y + lane.head + at * ROW + (ROW - BAR) / 2;
        let covered = -Infinity;
        for (const one of row) {
          const end = x(one.end);
          if (end - covered < 1.2 && end - x(one.start) < 1.2) continue; // nobody could tell them apart
          covered = end;
          places.set(one, [x(one.start), end, base]);
          bar(bars, signs, one, x, base, scale);
          for (const record of landed.get(one.task) || []) {
            if (record.time >= one.start && record.time <= one.end + 1 && record.agent === one.agent) {
              signs.append(
                landing(x(record.time), base + BAR / 2, `landed ${record.ref} ${movedRef(record)}`),
              );
            }
          }
        }
      });
    }
    connect(connectors, places);
    clip.append(connectors, bars, signs);
    svg.append(clip);
    nowLine(svg, x, top, height, gutter);
    const old = chart.querySelector("svg");
    chart.replaceChildren(svg);
    if (!inside.length)
      chart.append(
        h(
          "p",
          { class: "empty" },
          data.leases.length
            ? "Nobody held anything in this window."
            : "Nobody holds or has held anything in what is shown.",
        ),
      );
    if (drawn.length < lanes.length) {
      chart.append(
        h(
          "p",
          { class: "more more-lanes" },
          h(
            "button",
            {
              type: "button",
              on: {
                click: () => {
                  view.most += LANES * 2;
                  draw();
                },
              },
            },
            `Show ${Math.min(LANES * 2, lanes.length - drawn.length)} more lanes`,
          ),
          h("span", { class: "note" }, `the newest ${drawn.length} of ${lanes.length}`),
        ),
      );
    }
    roving(svg, focused);
    gestures(svg, scale, gutter);
    note(inside);
    if (!old) watchWidth(chart);
  }

  function axis(svg, x, scale, top, height, gutter, width) {
    const step = STEPS.find((one) => one * scale >= (width < 620 ? 52 : 64)) || STEPS.at(-1);
    const g = s("g", { "aria-hidden": "true" });
    for (let time = Math.floor(view.from / DAY) * DAY; time < view.to; time += DAY) {
      // nights: 20:00 to 6:00
      if (DAY * scale < 40) break;
      const [a, b] = [Math.max(gutter, x(time + 20 * HOUR)), Math.min(width, x(time + 30 * HOUR))];
      if (b > a)
        g.append(s("rect", { class: "night", x: a, y: top - 4, width: b - a, height: height - top }));
    }
    let lastDay = -Infinity;
    for (let time = Math.ceil(view.from / step) * step; time <= view.to; time += step) {
      const at = x(time),
        isDay = time % DAY === 0;
      g.append(s("line", { class: `grid ${isDay ? "day" : ""}`, x1: at, x2: at, y1: top - 6, y2: height }));
      if (isDay && at - lastDay > 70) {
        g.append(
          s(
            "text",
            { class: "axis day", x: at + 4, y: top - 24 },
            step >= 28 * DAY
              ? `${MONTHS[new Date(time).getUTCMonth()]} ${new Date(time).getUTCFullYear()}`
              : dayName(time),
          ),
        );
        lastDay = at;
      }
      if (step < DAY) g.append(s("text", { class: "axis", x: at + 4, y: top - 10 }, clock(time)));
    }
    if (lastDay === -Infinity || lastDay > gutter + 110)
      g.append(s("text", { class: "axis day", x: gutter + 2, y: top - 24 }, dayName(view.from)));
    svg.append(g);
  }

  // How busy it was, from the first record to the last, and which part of that is shown.
  function overviewStrip(svg, left, right) {
    const [first, last] = view.all,
      buckets = Math.max(20, Math.floor((right - left) / 5)),
      counts = new Array(buckets).fill(0);
    const at = (time) => left + ((time - first) / (last - first)) * (right - left);
    for (const one of data.records)
      counts[
        Math.min(buckets - 1, Math.max(0, Math.floor(((one.time - first) / (last - first)) * buckets)))
      ] += 1;
    const most = Math.max(1, ...counts),
      wide = (right - left) / buckets;
    const g = s(
      "g",
      { class: "overview", "aria-hidden": "true" },
      s("rect", { x: left, y: 0, width: right - left, height: 26, fill: "transparent" }),
    );
    counts.forEach((count, bucket) => {
      const tall = count ? 2 + 20 * Math.sqrt(count / most) : 0;
      if (tall)
        g.append(
          s("rect", {
            class: "count",
            x: left + bucket * wide + 0.5,
            y: 24 - tall,
            width: Math.max(1, wide - 1),
            height: tall,
            rx: 1,
          }),
        );
    });
    const [a, b] = [at(view.from), at(view.to)];
    if (b - a < right - left - 1) {
      g.append(s("rect", { class: "window", x: a, y: 0, width: Math.max(2, b - a), height: 26, rx: 3 }));
      for (const edge of [a, b])
        g.append(s("line", { class: "window-edge", x1: edge, x2: edge, y1: 0, y2: 26 }));
    }
    g.addEventListener("pointerdown", (event) => {
      event.stopPropagation();
      const width = view.to - view.from,
        begin = svg.getBoundingClientRect().left;
      const go = (to) => {
        const time = first + ((to.clientX - begin - left) / (right - left)) * (last - first);
        view.follows = false;
        show(time - width / 2, time + width / 2);
      };
      dragged(go);
      go(event);
    });
    svg.append(g);
  }

  function laneName(lane, gutter, narrow) {
    const room = narrow ? 46 : Math.floor((gutter - 16) / 6.9),
      isTask = view.lanes === "task";
    const title = isTask ? taskOf.get(lane.name)?.title : null;
    const text = s(
      "text",
      {
        class: `lane-name ${isTask ? "" : "agent"}`,
        x: narrow ? 2 : 6,
        y: lane.y + (narrow ? 13 : ROW / 2 + 4),
      },
      s("title", {}, title ? `${named(lane.name)}: ${title}` : named(lane.name)),
      short(isTask ? named(lane.name) : lane.name, room),
    );
    if (isTask) text.addEventListener("click", () => open(lane.name));
    return text;
  }

  // From a task's submission to its first claim.
  function waits(place, lane, x) {
    const submitted = (recordsOf.get(lane.name) || []).find(
      (one) => one.kind === "submit" || one.kind === "import",
    );
    const first = (leasesOf.get(lane.name) || [])[0];
    if (
      submitted &&
      first &&
      first.start > submitted.time &&
      first.start >= view.from &&
      submitted.time <= view.to
    ) {
      const y = lane.y + lane.head + ROW / 2;
      place.append(
        s("line", {
          class: "waits",
          x1: Math.max(x(submitted.time), x(view.from)),
          x2: x(first.start),
          y1: y,
          y2: y,
        }),
      );
    }
  }

  function bar(bars, signs, one, x, y, scale) {
    const left = x(one.start),
      right = Math.max(left + 2, x(one.end)),
      isTask = view.lanes === "task";
    const label = isTask ? one.agent : named(one.task);
    const g = s("g", {
      class: `bar c${colours.get(one.agent) ?? 8} ${one.checked}`,
      role: "button",
      tabindex: -1,
      "data-lease": `${one.task} ${one.start}`,
      "aria-label": words(one).join(", "),
    });
    if (one.ended === "held" && one.until > one.end) {
      g.append(
        s("rect", {
          class: "rest",
          x: right,
          y: y + 2,
          width: Math.max(0, x(one.until) - right),
          height: BAR - 4,
          rx: 3,
        }),
      );
    }
    g.append(
      s("rect", {
        class: "body",
        x: left,
        y,
        width: right - left,
        height: BAR,
        rx: Math.min(5, (right - left) / 2),
      }),
    );
    const from = Math.max(left, x(view.from)) + (one.began === "was handed" ? 11 : 6),
      room = Math.floor((Math.min(right, x(view.to)) - from - (one.ended === "held" ? 4 : 11)) / 6.3);
    if (room >= Math.min([...label].length, 7))
      g.append(s("text", { x: from, y: y + BAR / 2 + 4 }, short(label, room)));
    g.addEventListener("click", () => open(one.task));
    g.addEventListener("pointerenter", (event) => tip(one, event.clientX, event.clientY));
    g.addEventListener("pointerleave", hideTip);
    g.addEventListener("focus", () => {
      const box = g.getBoundingClientRect();
      if (g.matches(":focus-visible")) tip(one, box.left + Math.min(box.width, 60), box.bottom);
    });
    g.addEventListener("blur", hideTip);
    bars.append(g);
    if (
      one.ended !== "held" &&
      one.end >= view.from &&
      one.end <= view.to &&
      (right - left > 9 || scale * HOUR > 20)
    )
      signs.append(sign(one.ended, right, y + BAR / 2));
  }

  // From the lease of one agent to that of the next on the same task.
  function connect(place, positions) {
    let left = 400;
    for (const [one, [start, , y]] of positions) {
      if (one.began !== "took over" && one.began !== "was handed") continue;
      const held = leasesOf.get(one.task),
        before = held[held.indexOf(one) - 1],
        from = before && positions.get(before);
      if (!from || left-- <= 0) continue;
      const [a, b, y1, y2] = [from[1], start, from[2] + BAR / 2, y + BAR / 2],
        bend = Math.max(14, Math.abs(b - a) / 2);
      const d =
        y1 === y2 ? `M${a} ${y1} H${b}` : `M${a} ${y1} C${a + bend} ${y1} ${b - bend} ${y2} ${b} ${y2}`;
      place.append(
        s("path", {
          class: `passes ${one.began.replace(" ", "-")} ${y1 === y2 ? "" : "across"}`,
          d,
          "data-task": one.task,
        }),
      );
    }
  }

  function nowLine(svg, x, top, height, gutter) {
    const at = x(data.now);
    if (data.end < data.now || data.now < view.from || data.now > view.to || at < gutter) return;
    svg.append(
      s(
        "g",
        { "aria-hidden": "true" },
        s("line", { class: "now", x1: at, x2: at, y1: top - 22, y2: height }),
        s("rect", { class: "now-pill", x: at - 16, y: top - 35, width: 32, height: 15, rx: 7.5 }),
        s("text", { class: "now-word", x: at, y: top - 24, "text-anchor": "middle" }, "now"),
      ),
    );
  }

  const BEGAN = {
    "took over": "took it over after a lease had ended",
    "was handed": "was handed it",
    earlier: "had it before",
  };
  function how(one) {
    const by = one.by && one.by !== one.agent ? ` by ${one.by}` : "";
    return (
      {
        expired: one.by
          ? `expired; ${one.by === one.agent ? "it claimed the task again" : `${one.by} took over`}`
          : "expired; nobody has taken over",
        forced: `released by force${by}`,
        "was handed": `handed over to ${one.by}`,
      }[one.ended] || ENDED[one.ended]
    );
  }
  function words(one) {
    const task = taskOf.get(one.task),
      lines = [`${one.agent} held ${named(one.task)}`];
    if (task?.title) lines.push(task.title);
    const until =
      one.ended === "held"
        ? `until ${data.end < data.now ? "the end of what is shown" : "now"}; the lease lasts ${span(one.until - data.end)} more`
        : `to ${day(one.start) === day(one.end) ? "" : `${dayName(one.end)}, `}${clock(one.end)}`;
    lines.push(`${dayName(one.start)}, ${clock(one.start)} ${until} (${span(one.end - one.start)})`);
    lines.push(
      [
        BEGAN[one.began],
        how(one),
        one.renewals ? `renewed ${one.renewals} times` : "",
        `epoch ${one.epoch || "?"}`,
      ]
        .filter(Boolean)
        .join(" · "),
    );
    lines.push(
      `checked by ${one.checked === "server" ? "the server" : one.checked === "here" ? "this copy" : "NOBODY"}`,
    );
    return lines;
  }
  function light(task) {
    for (const path of byId("chart").querySelectorAll(".passes"))
      path.classList.toggle("lit", path.dataset.task === task);
  }
  function tip(one, clientX, clientY) {
    light(one.task);
    const box = byId("tip"),
      within = byId("timeline").getBoundingClientRect(),
      [first, ...more] = words(one);
    box.replaceChildren(
      h("b", {}, foreign(short(first, 120))),
      ...more.map((line) => h("div", { class: "line" }, foreign(short(line, 160)))),
    );
    box.hidden = false;
    const left = Math.max(8, Math.min(clientX - within.left + 12, within.width - box.offsetWidth - 8));
    box.style.left = `${left}px`;
    box.style.top = `${clientY - within.top + 18}px`;
  }
  function hideTip() {
    byId("tip").hidden = true;
    light(null);
  }

  // One lease can be reached by Tab; arrow keys go on from there.
  function roving(svg, focused) {
    const bars = [...svg.querySelectorAll(".bar")];
    if (!bars.length) return;
    const again = bars.find((one) => one.dataset.lease === focused);
    (again || bars[0]).setAttribute("tabindex", 0);
    if (again) again.focus({ preventScroll: true });
  }
  function keys(event) {
    const bars = [...byId("chart").querySelectorAll(".bar")],
      at = bars.indexOf(event.target);
    if (event.key === "+" || event.key === "=") zoom(0.5, middle());
    else if (event.key === "-") zoom(2, middle());
    else if (at < 0) return;
    else if (event.key === "Enter" || event.key === " ")
      open(event.target.dataset.lease.replace(/ \S*$/, ""));
    else {
      const box = event.target.getBoundingClientRect();
      const other = (away) =>
        bars.filter((one) => away(one.getBoundingClientRect())).sort((a, b) => far(a) - far(b))[0];
      const far = (one) => {
        const r = one.getBoundingClientRect();
        return Math.abs(r.top - box.top) * 1000 + Math.abs(r.left - box.left);
      };
      const to = {
        ArrowRight: bars[at + 1],
        ArrowLeft: bars[at - 1],
        Home: bars[0],
        End: bars.at(-1),
        ArrowDown: event.key === "ArrowDown" && other((r) => r.top > box.bottom - 2),
        ArrowUp: event.key === "ArrowUp" && other((r) => r.bottom < box.top + 2),
      }[event.key];
      if (!to) return;
      for (const one of bars) one.setAttribute("tabindex", one === to ? 0 : -1);
      to.focus();
    }
    event.preventDefault();
  }

  // Until the finger or the button is up; what it was put on may be drawn anew meanwhile.
  function dragged(move) {
    const end = () => {
      for (const [name, act] of heard) removeEventListener(name, act);
    };
    const heard = [
      ["pointermove", move],
      ["pointerup", end],
      ["pointercancel", end],
    ];
    for (const [name, act] of heard) addEventListener(name, act);
  }
  function gestures(svg, scale, left) {
    svg.addEventListener(
      "wheel",
      (event) => {
        if (!event.ctrlKey && !event.metaKey) return;
        event.preventDefault();
        const box = svg.getBoundingClientRect();
        zoom(event.deltaY > 0 ? 1.25 : 0.8, view.from + (event.clientX - box.left - left) / scale);
      },
      { passive: false },
    );
    svg.addEventListener("pointerdown", (event) => {
      if (event.button || event.target.closest(".bar, .lane-name")) return;
      const from = view.from,
        to = view.to,
        begin = event.clientX;
      const move = (now) => {
        view.follows = false;
        show(from - (now.clientX - begin) / scale, to - (now.clientX - begin) / scale);
      };
      dragged(move);
    });
  }
  function watchWidth(chart) {
    let width = chart.clientWidth;
    new ResizeObserver(() => {
      if (chart.clientWidth !== width) {
        width = chart.clientWidth;
        drawSoon();
      }
    }).observe(chart);
  }

  function note(inside) {
    const width = view.to - view.from;
    byId("timeline-note").textContent =
      `${many(inside.length, "lease")}; ${dayName(view.from)}, ${clock(view.from)} to ${dayName(view.to)}, ${clock(view.to)} (UTC)`;
    for (const button of document.querySelectorAll("[data-lanes]"))
      button.setAttribute("aria-pressed", String(button.dataset.lanes === view.lanes));
    for (const button of document.querySelectorAll("[data-span]")) {
      const wanted = Number(button.dataset.span),
        is = wanted ? Math.abs(width - wanted) < 1000 : width >= view.all[1] - view.all[0] - 1000;
      button.setAttribute("aria-pressed", String(is));
    }
  }

  function timeline() {
    const first = view.lanes === null,
      before = view.all,
      whole = view.to - view.from >= before[1] - before[0] - 1;
    view.all = bounds();
    const all = view.all[1] - view.all[0];
    if (first) {
      view.lanes = new Set(data.leases.map((one) => one.task)).size <= 60 ? "task" : "agent";
      const from =
        data.leases.length > 600
          ? view.all[1] - Math.max(HOUR, 600 * (all / data.leases.length))
          : view.all[0];
      show(from, view.all[1]);
    } else if (view.follows) {
      const width = whole ? all : view.to - view.from;
      show(view.all[1] - width, view.all[1]);
    } else drawSoon();
    const zooms = [
      ["All", 0],
      ["7 d", 7 * DAY],
      ["24 h", DAY],
      ["6 h", 6 * HOUR],
      ["1 h", HOUR],
    ].filter(([, width]) => width < all);
    byId("zooms").replaceChildren(
      ...zooms.map(([name, width]) =>
        h(
          "button",
          {
            type: "button",
            "data-span": width,
            on: {
              click: () => {
                const end =
                  view.follows || view.to >= view.all[1] - 1
                    ? view.all[1]
                    : Math.min(view.all[1], middle() + (width || all) / 2);
                show(end - (width || all), end);
              },
            },
          },
          name,
        ),
      ),
    );
    const days = [...new Set(data.records.map((one) => day(one.time)))].sort().reverse(),
      choice = byId("day"),
      kept = choice.value;
    choice.replaceChildren(
      h("option", { value: "" }, days.length > 1 ? "Go to a day" : "One day"),
      ...days.map((one) =>
        h("option", { value: one, selected: one === kept }, `${dayName(Date.parse(one))} ${one.slice(0, 4)}`),
      ),
    );
    choice.disabled = days.length < 2;
    const held = tally(data.leases, (one) => one.agent);
    byId("legend").replaceChildren(
      ...[...colours]
        .filter(([name]) => held.get(name))
        .slice(0, 24)
        .map(([name, at]) =>
          h(
            "li",
            { class: `c${at}` },
            h("i", { class: "dot" }),
            foreign(name),
            h("span", { class: "faint" }, ` ${held.get(name)}`),
          ),
        ),
    );
    const little = (shape) => s("svg", { viewBox: "-9 -9 18 18", "aria-hidden": "true" }, shape);
    byId("signs").replaceChildren(
      ...["done", "was handed", "gave back", "expired", "forced"].map((what) =>
        h("li", {}, little(sign(what, 0, 0)), SIGNS[what][1]),
      ),
      h("li", {}, little(landing(0, 0, "landed")), "code landed"),
      h("li", {}, little(s("path", { class: "passes", d: "M-8 0 H8" })), "taken over"),
    );
  }

  function timelineTools() {
    for (const button of document.querySelectorAll("[data-lanes]"))
      button.addEventListener("click", () => {
        view.lanes = button.dataset.lanes;
        view.most = LANES;
        draw();
      });
    for (const button of document.querySelectorAll("[data-move]"))
      button.addEventListener("click", () => {
        const by = (Number(button.dataset.move) * (view.to - view.from)) / 2;
        view.follows = false;
        show(view.from + by, view.to + by);
      });
    for (const button of document.querySelectorAll("[data-zoom]"))
      button.addEventListener("click", () => zoom(Number(button.dataset.zoom)));
    byId("day").addEventListener("change", (event) => {
      if (event.target.value) {
        const from = Date.parse(event.target.value);
        view.follows = false;
        show(from, from + DAY);
      }
    });
    byId("timeline-search").addEventListener("input", (event) => {
      view.words = event.target.value.trim().toLowerCase();
      drawSoon();
    });
    byId("chart").addEventListener("keydown", keys);
  }

  // -- tasks

  function holder(task) {
    if (!task.agent) return null;
    if (task.status === "claimed")
      return [
        who(task.agent, task.session),
        h(
          "div",
          { class: "note" },
          "until ",
          when(task.expires_at),
          `, ${span(Date.parse(task.expires_at) - data.now)} left`,
        ),
      ];
    if (task.status === "expired")
      return [
        who(task.agent, task.session),
        h("div", { class: "note" }, "lease over since ", ago(task.expires_at)),
      ];
    return who(task.agent, task.session);
  }
  function taskName(task) {
    return [
      task.title ? h("div", { class: "title" }, foreign(task.title)) : null,
      h("span", { class: "id" }, taskLink(task.task)),
      task.labels.length
        ? h(
            "span",
            { class: "labels" },
            task.labels.map((one) => h("span", { class: "label" }, foreign(one))),
          )
        : null,
    ];
  }
  function lastWord(task) {
    const words = [];
    if (task.waits_for.length)
      words.push(
        h(
          "div",
          { class: "note" },
          "waits for ",
          task.waits_for.map((name, at) => [at ? ", " : "", taskLink(name)]),
        ),
      );
    if (task.offered_to) words.push(h("div", { class: "note" }, "offered to ", who(task.offered_to)));
    if (task.last)
      words.push(
        h(
          "div",
          { class: "note" },
          `${task.last.kind} by ${task.last.agent}, `,
          ago(task.last.at),
          task.last.text ? [": ", foreign(short(task.last.text, 140))] : null,
        ),
      );
    return words;
  }
  function taskRow(task) {
    return h(
      "tr",
      {},
      cell("", "whole name-cell", taskName(task)),
      cell("", "tight", status(task)),
      cell("", "", holder(task)),
      cell("priority", "number", String(task.priority)),
      cell("claimed", "number", task.epoch ? `${task.epoch}×` : ""),
      cell("", "whole", lastWord(task)),
      cell("checked by", "tight", check(task)),
    );
  }
  function tasks() {
    const state = filters(
      "tasks",
      {
        status: { label: "Status", chips: [...tally(data.tasks, (task) => task.status)].sort() },
        words: { search: "Title, id, note" },
        agent: {
          label: "Every holder",
          values: [...new Set(data.tasks.map((task) => task.agent).filter(Boolean))].sort(),
        },
        label: {
          label: "Every label",
          values: [...new Set(data.tasks.flatMap((task) => task.labels))].sort(),
        },
        checked: {
          label: "Checked by all",
          values: [...new Set(data.tasks.map((task) => task.checked))].sort(),
        },
      },
      drawTasks,
    );
    function drawTasks() {
      const found = data.tasks.filter(
        (task) =>
          (!state.status || task.status === state.status) &&
          (!state.agent || task.agent === state.agent) &&
          (!state.label || task.labels.includes(state.label)) &&
          (!state.checked || task.checked === state.checked) &&
          has(state.words, named(task.task), task.title, task.note, task.result, task.last?.text),
      );
      byId("tasks-note").textContent =
        found.length === data.tasks.length
          ? `${many(found.length, "task")}, the most urgent first`
          : `${found.length.toLocaleString("en")} of ${many(data.tasks.length, "task")}`;
      list(byId("tasks-list"), found, taskRow, {
        head: [
          "Task",
          "Status",
          "Holder",
          ["Priority", "number"],
          ["Claimed", "number"],
          "Newest",
          "Checked by",
        ],
        none: "No task fits.",
      });
    }
    drawTasks();
  }

  // -- messages

  function message(one, root) {
    const text = h("div", { class: "text" }, foreign(one.body)),
      long = one.body.length > 900 || one.body.split("\n").length > 12;
    const box = h(
      "div",
      { class: `message c${colours.get(one.from) ?? 8} ${root === one.seq ? "" : "answer"}` },
      h(
        "div",
        { class: "by" },
        h("b", {}, foreign(one.from)),
        one.to ? ["to ", foreign(one.to)] : ["in ", foreign(`#${one.channel}`)],
        when(one.sent_at),
        h("span", { class: "faint" }, `№ ${one.seq}`),
        one.importance === "high"
          ? h("span", { class: "mark bad" }, "! high")
          : one.importance === "low"
            ? h("span", { class: "mark" }, "low")
            : null,
        one.acked
          ? h("span", { class: "mark good" }, "acknowledged ", ago(one.acked.at))
          : one.to
            ? h("span", { class: "mark" }, "not acknowledged")
            : null,
        check(one),
      ),
      text,
    );
    if (long) {
      text.classList.add("folded");
      box.append(
        h(
          "button",
          {
            type: "button",
            class: "plain note",
            on: {
              click: (event) => {
                text.classList.remove("folded");
                event.target.remove();
              },
            },
          },
          `Show all ${one.body.length.toLocaleString("en")} characters`,
        ),
      );
    }
    return box;
  }
  function threads() {
    const at = new Map(data.messages.map((one) => [one.seq, one])),
      roots = new Map();
    const root = (one) => {
      let seq = one.seq;
      for (
        let left = 10000;
        left &&
        at.get(seq)?.thread !== null &&
        at.get(seq)?.thread !== undefined &&
        at.get(seq).thread < seq &&
        at.has(at.get(seq).thread);
        left -= 1
      )
        seq = at.get(seq).thread;
      return seq;
    };
    for (const one of data.messages) {
      const first = root(one);
      if (!roots.has(first)) roots.set(first, []);
      roots.get(first).push(one);
    }
    return [...roots].sort(([, a], [, b]) => b.at(-1).seq - a.at(-1).seq);
  }
  function messages() {
    const all = threads();
    const state = filters(
      "messages",
      {
        words: { search: "Text of messages" },
        agent: {
          label: "From and to all",
          values: [...new Set(data.messages.flatMap((one) => [one.from, one.to]).filter(Boolean))].sort(),
        },
        channel: {
          label: "Every channel",
          values: [...new Set(data.messages.map((one) => one.channel).filter(Boolean))].sort(),
        },
        acked: { label: "Read or not", values: ["acknowledged", "not acknowledged"] },
      },
      drawMessages,
    );
    function drawMessages() {
      const fits = (one) =>
        (!state.agent || one.from === state.agent || one.to === state.agent) &&
        (!state.channel || one.channel === state.channel) &&
        has(state.words, one.body) &&
        (!state.acked || (one.to && Boolean(one.acked) === (state.acked === "acknowledged")));
      const found = all.filter(([, some]) => some.some(fits));
      byId("messages-note").textContent =
        `${many(data.messages.length, "message")}, ${found.length === all.length ? many(all.length, "thread") : `${found.length} of ${many(all.length, "thread")}`}, the newest first`;
      list(
        byId("messages-list"),
        found,
        ([first, some]) =>
          h(
            "article",
            { class: "thread" },
            some.slice(0, 100).map((one) => message(one, first)),
          ),
        { none: "No message fits.", size: 12 },
      );
    }
    drawMessages();
  }

  // -- agents and keys

  function spark(agent) {
    const [first, last] = view.all,
      count = 48,
      counts = new Array(count).fill(0);
    for (const one of data.records)
      if (one.agent === agent)
        counts[Math.min(count - 1, Math.floor(((one.time - first) / (last - first)) * count))] += 1;
    const most = Math.max(1, ...counts);
    return s(
      "svg",
      { class: "spark", viewBox: "0 0 240 30", preserveAspectRatio: "none", "aria-hidden": "true" },
      s("line", { x1: 0, x2: 240, y1: 29.5, y2: 29.5 }),
      counts.map((number, at) =>
        number
          ? s("rect", {
              x: at * 5 + 0.6,
              width: 3.8,
              y: 29 - (3 + 25 * (number / most)),
              height: 3 + 25 * (number / most),
              rx: 1,
            })
          : null,
      ),
    );
  }
  function agents() {
    const figures = new Map(data.stats.agents.map((one) => [one.agent, one])),
      keysOf = new Map(data.agents.map((one) => [one.agent, one]));
    byId("agents-note").textContent =
      `${many(data.activity.length, "agent")}; figures from ${data.stats.since.slice(0, 10)} on`;
    const none = {
      claimed: 0,
      done: 0,
      given_back: 0,
      taken_over: 0,
      lost: 0,
      forced: 0,
      duration: { median: null },
    };
    byId("agents-list").replaceChildren(
      ...data.activity.map((one) => {
        const did = figures.get(one.agent) || none,
          fact = (name, ...value) => (value[0] ? [h("dt", {}, name), h("dd", {}, ...value)] : null);
        return h(
          "article",
          { class: `card c${colours.get(one.agent) ?? 8}` },
          h(
            "h3",
            {},
            foreign(one.agent),
            one.role === "agent" ? null : h("span", { class: "mark strong" }, one.role),
            one.active ? null : h("span", { class: "mark bad" }, "revoked"),
          ),
          h(
            "dl",
            {},
            fact("last seen", one.last_seen ? ago(one.last_seen) : "never"),
            fact(
              "holds",
              one.holds.length ? one.holds.map((name, at) => [at ? ", " : "", taskLink(name)]) : "nothing",
            ),
            fact(
              "done",
              `${did.done.toLocaleString("en")}${did.duration.median === null ? "" : `, in ${seconds(did.duration.median)} (median)`}`,
            ),
            fact("claimed", did.claimed ? did.claimed.toLocaleString("en") : ""),
            fact("took over", did.taken_over ? did.taken_over.toLocaleString("en") : ""),
            fact("lost", did.lost ? many(did.lost, "lease") : ""),
            fact("by force", did.forced ? `${did.forced} taken away` : ""),
            fact("gave back", did.given_back ? String(did.given_back) : ""),
            fact("unread", one.unread ? many(one.unread, "message") : ""),
            fact(
              "keys",
              (keysOf.get(one.agent)?.keys || [])
                .filter((key) => key.until_seq === null)
                .map((key) => key.alg)
                .join(", ") || "none valid",
            ),
            fact("delegates", one.delegates.join(", ")),
          ),
          spark(one.agent),
        );
      }),
    );
  }
  function keyRow({ agent, key }) {
    const began = recordAt.get(key.from_seq - 1) || recordAt.get(key.from_seq),
      ended = key.until_seq === null ? null : recordAt.get(key.until_seq);
    const by = (record) =>
      record
        ? [who(record.agent), h("div", { class: "note" }, when(record.at), `, record ${record.seq}`)]
        : "before this copy's oldest record";
    return h(
      "tr",
      {},
      cell("", "", who(agent), h("span", { class: "faint" }, ` key ${key.id}`)),
      cell(
        "",
        "tight",
        key.until_seq === null
          ? h("span", { class: "mark good" }, "valid")
          : h("span", { class: "mark bad" }, "ended"),
      ),
      cell("", "tight mono", key.alg),
      cell("", "whole mono foreign", short(key.verifier, 40)),
      cell("enrolled by", "", by(began)),
      cell(key.until_seq === null ? "" : "revoked by", "", key.until_seq === null ? "" : by(ended)),
      cell("checked by", "tight", began ? check(began) : ""),
    );
  }
  function keyHistory(record) {
    return h(
      "tr",
      {},
      cell("", "tight number", String(record.seq)),
      cell("", "tight", when(record.at)),
      cell(
        "",
        "tight",
        h(
          "span",
          { class: `mark ${{ revoke: "bad", genesis: "strong", enroll: "good" }[record.kind] || ""}` },
          { genesis: "founded", enroll: "enrolled", revoke: "revoked", policy: "policy" }[record.kind],
        ),
      ),
      cell("by", "tight", who(record.agent, record.session)),
      cell("", "whole", foreign(record.subject)),
      cell("checked by", "tight", check(record)),
    );
  }
  function keysAndPolicy() {
    const rows = data.agents.flatMap((one) => one.keys.map((key) => ({ agent: one.agent, key }))),
      ended = rows.filter((one) => one.key.until_seq !== null).length;
    byId("keys-note").textContent =
      `${many(rows.length, "key")}, ${ended ? `${ended} of them ended` : "all of them valid"}`;
    list(byId("keys-list"), rows, keyRow, {
      head: ["Agent", "State", "Kind", "Public line or fingerprint", "Enrolled", "Ended", "Checked by"],
      none: "No keys.",
    });
    list(byId("keys-history"), [...data.keys].reverse(), keyHistory, {
      head: [["Record", "number"], "When", "What", "By", "Says", "Checked by"],
      none: "None in this copy.",
    });
  }

  // -- the audit

  function audit() {
    const found = data.audit,
      problems = found.problems,
      by = tally(data.records, (one) => one.checked);
    const nobody = by.get("nobody") || 0,
      server = by.get("server") || 0,
      here = by.get("here") || 0;
    const kind = problems.length ? "bad" : nobody ? "warn" : "good";
    const title = {
      bad: `${many(problems.length, "record")} did not pass`,
      warn: `What could be checked holds; ${many(nobody, "record")} nobody has checked`,
      good: "Every record that is shown was checked, and holds",
    }[kind];
    const counted = [
      here ? `${here.toLocaleString("en")} here, with a key` : "",
      server ? `${server.toLocaleString("en")} by the server's hook, whose word that is` : "",
    ]
      .filter(Boolean)
      .join("; ");
    const why = {
      bad: "What follows the first of them has no place in the history.",
      warn: `For those there is no key here, and no server's hook has vouched. Checked: ${counted || "none"}.`,
      good: `Checked: ${counted}.`,
    }[kind];
    const vouched = data.status.vouched,
      fact = (name, ...value) => [h("dt", {}, name), h("dd", {}, ...value)];
    const many_ = Object.entries(found.verdicts)
      .map(([name, count]) => `${count.toLocaleString("en")} ${name}`)
      .join(", ");
    byId("audit-note").textContent =
      `by the keys of this copy, at ${data.made_at.slice(0, 19).replace("T", " ")}Z`;
    put(
      byId("audit-list"),
      h(
        "div",
        { class: `verdict ${kind}` },
        h("span", { class: "sign-word", "aria-hidden": "true" }, { bad: "✗", warn: "?", good: "✓" }[kind]),
        h("div", {}, h("strong", {}, title), h("p", {}, why)),
      ),
      problems.length
        ? h(
            "table",
            { class: "table stacks" },
            h(
              "tbody",
              {},
              problems.map((one) =>
                h(
                  "tr",
                  {},
                  cell("record", "tight", String(one.seq ?? "?")),
                  cell("", "mono", String(one.commit || "").slice(0, 12)),
                  cell("", "tight", h("span", { class: "mark bad" }, one.code)),
                  cell("", "whole", foreign(one.message)),
                ),
              ),
            ),
          )
        : "",
      h(
        "dl",
        { class: "facts" },
        fact(
          "Audited now",
          found.records
            ? `${many(found.records, "record")} from record ${found.since} on: ${many_}`
            : "nothing new since the last audit in this copy",
        ),
        fact(
          "Audited in all",
          data.audited >= 0
            ? `up to record ${data.audited}${data.oldest ? `, from record ${data.oldest} on: this copy has none below` : ""}`
            : "not yet up to the head",
        ),
        fact(
          "Who checks at the server",
          {
            server: "its hook, which refuses forged records",
            none: "nobody: forged records are detected where the keys are, not prevented",
            unknown: "not known here; coordledger doctor tries it",
          }[data.status.enforcement] || data.status.enforcement,
        ),
        vouched
          ? fact("The hook vouches", `for every record up to ${vouched.seq}, said at `, when(vouched.at))
          : "",
        fact("Head", h("code", {}, `${data.head.seq}:${data.head.digest}`)),
        fact("Ledger", h("code", {}, data.ledger)),
        fact(
          "Check it yourself",
          h("code", {}, "coordledger audit --full"),
          " in a clone; compare the head with another copy's: ",
          h(
            "code",
            {},
            `coordledger head --compare "${data.ledger} ${data.head.seq}:${data.head.digest.slice(0, 16)}…"`,
          ),
        ),
      ),
    );
  }

  // -- records

  const recordOfTask = (record) => recordRow(record, true);
  function recordRow(record, bare) {
    return h(
      "tr",
      {},
      h("td", { class: "tight number faint", title: `commit ${record.commit}` }, String(record.seq)),
      cell("", "tight", when(record.time ?? record.at)),
      cell("", "tight", who(record.agent, record.session)),
      cell(
        "",
        "tight",
        h(
          "span",
          {
            class: `mark ${{ complete: "good", release: "warn", claim: "strong", land: "strong", revoke: "bad" }[record.kind] || ""}`,
          },
          record.kind,
        ),
      ),
      bare === true
        ? ""
        : cell(
            "",
            "whole",
            record.tasks.map((name, at) => [at ? " " : "", taskLink(name)]),
          ),
      cell("", "whole", foreign(short(said(record), 320))),
      cell("checked by", "tight", check(record)),
    );
  }
  const HEAD_OF_RECORDS = [["Record", "number"], "When", "Who", "What", "Task", "Says", "Checked by"];
  function records() {
    const newest = [...data.records].reverse();
    const state = filters(
      "records",
      {
        words: { search: "Task, agent, text" },
        kind: { label: "Every kind", values: [...new Set(data.records.map((one) => one.kind))].sort() },
        agent: { label: "Every agent", values: [...new Set(data.records.map((one) => one.agent))].sort() },
        checked: {
          label: "Checked by all",
          values: [...new Set(data.records.map((one) => one.checked))].sort(),
        },
      },
      drawRecords,
    );
    function drawRecords() {
      const found = newest.filter(
        (one) =>
          (!state.kind || one.kind === state.kind) &&
          (!state.agent || one.agent === state.agent) &&
          (!state.checked || one.checked === state.checked) &&
          (!state.words || has(state.words, ...one.tasks.map(named), one.agent, one.text, one.subject)),
      );
      const left = data.matching - data.records.length;
      byId("records-note").textContent =
        `${found.length === newest.length ? many(found.length, "record") : `${found.length.toLocaleString("en")} of ${many(newest.length, "record")}`}, the newest first${left > 0 && !data.agent ? `; ${left.toLocaleString("en")} older ones are left out` : ""}`;
      list(byId("records-list"), found, recordRow, { head: HEAD_OF_RECORDS, none: "No record fits." });
    }
    drawRecords();
  }

  // -- one task

  function leaseRow(one) {
    return h(
      "tr",
      {},
      cell("epoch", "number", one.epoch ? String(one.epoch) : "?"),
      cell("", "tight", who(one.agent, one.session)),
      cell("from", "tight", when(one.start)),
      cell("to", "tight", one.ended === "held" ? "now" : when(one.end)),
      cell("", "tight", span(one.end - one.start)),
      cell("", "whole", [BEGAN[one.began], how(one)].filter(Boolean).join("; ")),
      cell("checked by", "tight", check(one)),
    );
  }
  function open(name) {
    const task = taskOf.get(name),
      box = byId("detail"),
      held = leasesOf.get(name) || [],
      about = [...(recordsOf.get(name) || [])].reverse();
    const close = h("button", { type: "button", on: { click: () => box.close() } }, "Close");
    const fact = (label, ...value) =>
      value[0] || value[0] === 0 ? [h("dt", {}, label), h("dd", {}, ...value)] : null;
    put(
      box,
      h(
        "div",
        { class: "detail-head" },
        h(
          "div",
          {},
          h("h2", { id: "detail-title" }, foreign(task?.title || named(name))),
          h("p", { class: "id mono" }, foreign(named(name))),
        ),
        close,
      ),
      task
        ? h(
            "dl",
            { class: "facts" },
            fact("Status", status(task), " ", check(task)),
            fact("Holder", holder(task)),
            fact("Priority", String(task.priority)),
            fact("Submitted by", task.by ? who(task.by) : ""),
            fact("Labels", task.labels.join(", ")),
            fact("Part of", task.parent ? taskLink(task.parent) : ""),
            fact(
              "After",
              task.after.length ? task.after.map((one, at) => [at ? ", " : "", taskLink(one)]) : "",
            ),
            fact("Note", task.note ? h("span", { class: "text" }, foreign(task.note)) : ""),
            fact("Result", task.result ? h("span", { class: "text" }, foreign(task.result)) : ""),
            fact("Paths", task.paths.length ? h("code", {}, foreign(task.paths.join("  "))) : ""),
            Object.entries(task.meta).map(([key, value]) => fact(key, foreign(value))),
            task.legacy ? fact("Comes from", `${task.legacy.source}, by the word of who imported it`) : null,
          )
        : "",
      Object.hasOwn(data.bodies, name)
        ? [
            h("h3", { class: "sub" }, "What it is about"),
            h("div", { class: "body-text text" }, foreign(data.bodies[name])),
          ]
        : "",
      held.length
        ? [h("h3", { class: "sub" }, `Held ${many(held.length, "time")}`), h("div", { id: "detail-leases" })]
        : "",
      h("h3", { class: "sub" }, "Its records"),
      h("div", { id: "detail-records" }),
    );
    if (held.length)
      list(byId("detail-leases"), held, leaseRow, {
        head: [["Epoch", "number"], "Who", "From", "To", "For", "How", "Checked by"],
        none: "",
      });
    list(byId("detail-records"), about, recordOfTask, {
      head: HEAD_OF_RECORDS.filter((name) => name !== "Task"),
      none: "None among those of this report.",
    });
    if (!box.open) box.showModal();
    box.scrollTop = 0;
    history.replaceState(null, "", `#task/${encodeURIComponent(name)}`);
  }

  // -- all of it

  function head() {
    const since = data.since || data.until || data.task || data.agent;
    byId("name").textContent = data.name;
    document.title = `${data.name}: coordledger report`;
    byId("about").replaceChildren(
      h("span", { class: "foreign" }, data.url),
      ` · ledger ${data.ledger.slice(0, 12)} · record ${data.head.seq.toLocaleString("en")} · as of ${data.made_at.slice(0, 16).replace("T", " ")} UTC`,
    );
    byId("selected").hidden = !since;
    if (since)
      byId("selected").textContent =
        `Only a part is shown: ${[data.since && `since ${data.since.slice(0, 16).replace("T", " ")}`, data.until && `until ${data.until.slice(0, 16).replace("T", " ")}`, data.task && `task ${data.task}`, data.agent && `what concerns ${data.agent}`].filter(Boolean).join(", ")}. Tasks, agents and keys are as they are now.`;
    byId("live").hidden = !data.live;
    byId("foot").textContent =
      `Made by coordledger ${data.version} from ${data.ref}, head ${data.head.commit}. Times are UTC. Nothing on this page is loaded from elsewhere.`;
  }
  function all() {
    head();
    overview();
    timeline();
    tasks();
    messages();
    agents();
    keysAndPolicy();
    audit();
    records();
  }

  // -- live: ask for newer data, and keep what is chosen

  // What has the keyboard is made anew: the same words in the same part get it back.
  function focused() {
    const one = document.activeElement,
      part = one?.closest("main section"),
      words = one?.textContent;
    return () => {
      if (!part || one.isConnected || one.closest(".chart")) return;
      const same = [...part.querySelectorAll("button, select, a")].find(
        (other) => other.textContent === words,
      );
      same?.focus({ preventScroll: true });
    };
  }

  let etag = null;
  async function poll() {
    if (!document.hidden) {
      try {
        const answer = await fetch("data.json", { headers: etag ? { "If-None-Match": etag } : {} });
        if (answer.status === 200) {
          const typed = document.activeElement?.closest(".tools input");
          etag = answer.headers.get("ETag");
          const raw = await answer.json();
          if (!typed) {
            const again = focused();
            read(raw);
            all();
            again();
            byId("said").textContent = `New records: now up to ${data.head.seq}`;
          } else etag = null;
        }
        byId("live").textContent = data.trouble || "live";
        byId("live").className = `mark ${data.trouble ? "bad" : "good"}`;
      } catch {
        byId("live").textContent = "no answer";
        byId("live").className = "mark bad";
      }
    }
    setTimeout(poll, PAUSE);
  }

  // Which part is being read.
  function watchParts() {
    const links = new Map(
      [...document.querySelectorAll(".sections a")].map((link) => [link.getAttribute("href").slice(1), link]),
    );
    const seen = new Set();
    const watcher = new IntersectionObserver(
      (entries) => {
        for (const one of entries)
          if (one.isIntersecting) seen.add(one.target.id);
          else seen.delete(one.target.id);
        const now = [...links.keys()].find((id) => seen.has(id));
        for (const [id, link] of links)
          if (id === now) link.setAttribute("aria-current", "true");
          else link.removeAttribute("aria-current");
      },
      { rootMargin: "-120px 0px -60% 0px" },
    );
    for (const id of links.keys()) if (byId(id)) watcher.observe(byId(id));
  }

  read(JSON.parse(byId("data").textContent));
  timelineTools();
  all();
  watchParts();
  byId("print").addEventListener("click", () => print());
  byId("detail").addEventListener("click", (event) => {
    if (event.target === byId("detail")) byId("detail").close();
  });
  byId("detail").addEventListener("close", () =>
    history.replaceState(null, "", location.pathname + location.search),
  );
  const asked = /^#task\/(.+)$/.exec(location.hash);
  if (asked) {
    let name = "";
    try {
      name = decodeURIComponent(asked[1]);
    } catch {
      /* not an address that this page has made */
    }
    if (taskOf.has(name) || recordsOf.has(name)) open(name);
  }
  addEventListener("beforeprint", () => draw());
  if (data.live) setTimeout(poll, PAUSE);
  document.documentElement.dataset.ready = "yes";
})();
