// The browser of samples. What a model wrote enters the page by textContent alone, never as HTML.
"use strict";
(function () {
  const data = JSON.parse(document.getElementById("data").textContent);

  function element(name, className, ...children) {
    const made = document.createElement(name);
    if (className) made.className = className;
    made.append(...children);
    return made;
  }

  // A solution with its <<equations>> marked; those listed in `bad` get a wavy line.
  function solution(text, bad) {
    if (!text) return element("p", "empty-text", "(an empty text)");
    const pre = element("pre");
    for (const piece of text.split(/(<<[^<>]*>>)/)) {
      if (!piece.startsWith("<<")) { pre.append(piece); continue; }
      const isBad = bad && bad.includes(piece.slice(2, -2));
      pre.append(element("span", isBad ? "eq bad" : "eq", piece));
    }
    return pre;
  }

  function path(entry) {
    const why = element("div", "why", element("b", "", entry.count === 1 ? "1 sample" : entry.count + " samples"), " · ", entry.why);
    const shown = element("div", "path " + entry.verdict, why, solution(entry.text, entry.bad));
    const others = entry.num_wordings - 1;
    if (others > 0) {
      const title = others === 1 ? "1 other wording" : others + " other wordings";
      const cut = entry.wordings.length < others ? ", the first " + entry.wordings.length + " shown" : "";
      const more = element("details", "", element("summary", "", title + cut));
      for (const wording of entry.wordings) more.append(solution(wording, entry.bad));
      shown.append(more);
    }
    return shown;
  }

  const heading = (text) => element("h3", "", text);

  function problem(entry) {
    const hidden = entry.num_paths - entry.paths.length;
    const counts = entry.num_correct + " of " + entry.num_samples + " samples correct, " + entry.num_paths + (entry.num_paths === 1 ? " path" : " different paths");
    return [
      heading("Question " + entry.id), element("p", "", entry.question),
      heading("Gold solution"), solution(entry.gold),
      heading(counts), ...entry.paths.map(path),
      ...(hidden ? [heading("and " + hidden + " more, not shown")] : []),
    ];
  }

  function answer(name, entry) {
    const why = element("div", "why", element("b", "", name), " · ", entry.why);
    return element("div", "path " + (entry.is_correct ? "kept" : "incorrect"), why, solution(entry.text, entry.bad));
  }

  function difference(entry) {
    return [
      heading("Test question " + entry.id), element("p", "", entry.question),
      heading("Gold solution"), solution(entry.gold),
      heading("Answers"), answer(entry.before.name, entry.before), answer("RFT", entry.rft),
    ];
  }

  function meter(share) {
    const bar = element("i");
    bar.style.width = 100 * share + "%";
    return element("div", "meter", bar);
  }

  function problemClass(entry) {
    if (entry.num_correct === 0) return "unsolved";
    return entry.num_correct === entry.num_samples ? "solved" : "partly";
  }

  const kinds = {
    problems: {
      entries: data.problems.map((entry) => ({ ...entry, group: problemClass(entry) })),
      show: problem,
      note: (entry) => entry.num_correct + "/" + entry.num_samples + " correct",
      share: (entry) => entry.num_correct / Math.max(entry.num_samples, 1),
      texts: (entry) => [entry.id, entry.question, entry.gold, ...entry.paths.map((p) => p.text)],
    },
    differences: {
      entries: ["won", "lost"].flatMap((group) => data[group].map((entry) => ({ ...entry, group }))),
      show: difference,
      note: (entry) => entry.group,
      share: null,
      texts: (entry) => [entry.id, entry.question, entry.gold, entry.before.text, entry.rft.text],
    },
  };

  function start(root) {
    const kind = kinds[root.dataset.list];
    const [search, filter, list, detail, matches] = ["input", "select", ".list", ".detail", ".matches"].map((s) => root.querySelector(s));
    const haystacks = kind.entries.map((entry) => kind.texts(entry).join("\n").toLowerCase());
    let rows = [];

    function select(index, scroll) {
      if (index < 0 || index >= rows.length) return;
      rows.forEach((row, at) => row.node.setAttribute("aria-selected", String(at === index)));
      detail.replaceChildren(...kind.show(rows[index].entry));
      detail.scrollTop = 0;
      if (scroll) rows[index].node.scrollIntoView({ block: "nearest" });
    }

    function row(entry) {
      const head = element("div", "head", element("span", "", "#" + entry.id), element("span", "", kind.note(entry)));
      const node = element("div", "row", head, element("div", "words", entry.question), ...(kind.share ? [meter(kind.share(entry))] : []));
      node.setAttribute("role", "option");
      node.addEventListener("click", () => select(rows.findIndex((other) => other.node === node), false));
      return { entry, node };
    }

    function refresh() {
      const wanted = search.value.trim().toLowerCase();
      const fits = (entry, at) => (filter.value === "every" || entry.group === filter.value) && haystacks[at].includes(wanted);
      rows = kind.entries.filter(fits).map(row);
      list.replaceChildren(...rows.map((r) => r.node));
      matches.textContent = rows.length + (rows.length === 1 ? " problem" : " problems");
      if (rows.length) select(0, false);
      else detail.replaceChildren(element("p", "empty", "No problem fits."));
    }

    list.addEventListener("keydown", (event) => {
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      select(rows.findIndex((r) => r.node.getAttribute("aria-selected") === "true") + step, true);
    });
    search.addEventListener("input", refresh);
    filter.addEventListener("change", refresh);
    refresh();
  }

  document.querySelectorAll(".browser").forEach(start);
})();
