"""Drives ComfyUI's page in a headless browser, run by test_page.py with the environment's Python:

    python browse.py URL BROWSER WORKFLOW OUT

Writes graph.png and error.png into OUT and prints what was seen as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

# Chromium must not look outside of this machine.
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update"]
FLAGS += ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
READY = "window.app && window.app.graph && Object.keys(LiteGraph.registered_node_types).length > 300"
FIT = """() => {
  const [a, b, c, d] = app.graph.nodes.reduce(([a, b, c, d], n) => [Math.min(a, n.pos[0]), Math.min(b, n.pos[1] - 30),
    Math.max(c, n.pos[0] + n.size[0]), Math.max(d, n.pos[1] + n.size[1])], [1e9, 1e9, -1e9, -1e9]);
  const s = Math.min(1700 / (c - a), 820 / (d - b), 1.1);
  app.canvas.ds.scale = s;
  app.canvas.ds.offset = [110 / s - a, 140 / s - b];
  app.graph.setDirtyCanvas(true, true);
}"""
LOAD = "async graph => { await app.loadGraphData(graph); }"
RUN = """async () => {
  const ended = new Promise(resolve => {
    for (const kind of ['execution_success', 'execution_error']) app.api.addEventListener(kind, () => resolve(kind), {once: true});
  });
  await app.queuePrompt(0, 1);
  return await ended;
}"""

# What our script for the page (web/js) adds.
REPORTS = """() => Object.fromEntries(app.graph.nodes.filter(n => n.type.startsWith('GPEN')).map(
  n => [n.type, n.widgets?.find(w => w.name === 'report')?.value ?? null]))"""
FACTOR = """() => {
  const node = LiteGraph.createNode('GPENRestoreFaces');
  app.graph.add(node);
  const [size, factor] = ['output_size', 'factor'].map(name => node.widgets.find(w => w.name === name));
  const hidden = [!!factor.hidden];
  for (const value of ['factor', 'native']) {
    size.value = value;
    size.callback(value);
    hidden.push(!!factor.hidden);
  }
  size.value = 'factor';
  const copy = LiteGraph.createNode('GPENRestoreFaces');
  app.graph.add(copy);
  const saved = node.serialize();
  copy.configure({...saved, id: copy.id});
  hidden.push(!!copy.widgets.find(w => w.name === 'factor').hidden);
  app.graph.remove(node);
  app.graph.remove(copy);
  return hidden;
}"""
ROWS = """() => {
  const node = app.graph.nodes.find(n => n.type === 'GPENRestoreFaces');
  const [size, detail] = ['output_size', 'detail'].map(name => node.widgets.find(w => w.name === name));
  return detail.y - size.y;
}"""
SAVED = """async () => {
  const saved = app.graph.serialize().nodes.find(n => n.type === 'GPENRestoreFaces');
  const sent = Object.values((await app.graphToPrompt()).output).find(n => n.class_type === 'GPENRestoreFaces');
  return {values: saved.widgets_values, sent: Object.keys(sent.inputs)};
}"""
WIDTHS = """() => Object.keys(LiteGraph.registered_node_types).filter(type => type.startsWith('GPEN')).map(type => {
  const node = LiteGraph.createNode(type);
  return [node.title, node.size[0]];
})"""
SPEAK = "async language => { await app.extensionManager.setting.set('Comfy.Locale', language); }"
LABELS = """() => {
  const node = LiteGraph.createNode('GPENRestoreFaces');
  app.graph.add(node);
  node.onExecuted({text: ['done']});
  const labels = [...node.inputs.filter(i => !i.widget).map(i => i.localized_name), ...node.widgets.map(w => w.label)];
  const category = LiteGraph.registered_node_types.GPENRestoreFaces.category;
  app.graph.remove(node);
  return [...labels, ...category.split('/')];
}"""

# As the page does when a blueprint is chosen in its node library.
BLUEPRINTS = """async () => {
  const stores = document.querySelector('#vue-app').__vue_app__.config.globalProperties.$pinia._s;
  const store = stores.get('subgraph');
  const all = store.subgraphBlueprints ?? [...stores.get('nodeDef').blueprintNodeDefsByName.values()]; // page 1.58 has them there
  const queued = {};
  for (const listed of all.filter(one => one.display_name.endsWith('(GPEN)'))) {
    const blueprint = await store.getBlueprint(listed.name);
    app.graph.clear();
    const items = {nodes: blueprint.nodes, subgraphs: blueprint.definitions.subgraphs};
    const {nodes} = app.canvas._deserializeItems(items, {position: [500, 60]});
    const picture = LiteGraph.createNode('GPENExamplePicture'), save = LiteGraph.createNode('PreviewImage');
    app.graph.add(picture);
    app.graph.add(save);
    const [node] = nodes.values();
    picture.connect(0, node, 0);
    node.connect(0, save, 0);
    queued[listed.display_name] = {
      prompt: (await app.graphToPrompt()).output,
      picture: String(picture.id),
      title: node.title,
      widgets: node.widgets.map(w => w.label ?? w.name),
    };
  }
  return queued;
}"""


def run(page: Page) -> str:
    ended: str = page.evaluate(RUN)
    page.wait_for_timeout(1500)  # the page draws what it was told
    page.evaluate(FIT)
    page.wait_for_timeout(700)
    return ended


def in_language(page: Page, language: str) -> dict[str, object]:
    """What the page shows of the nodes in another language."""
    page.evaluate(SPEAK, language)
    page.reload()
    page.wait_for_function(READY, timeout=120_000)
    page.wait_for_timeout(2000)
    shown = {name: blueprint["widgets"] for name, blueprint in page.evaluate(BLUEPRINTS).items()}
    return {"titles": page.evaluate(WIDTHS), "labels": page.evaluate(LABELS), "blueprints": shown}


def main() -> None:
    url, browser, workflow, out = sys.argv[1:]
    seen: dict[str, object] = {}
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=FLAGS)
        page = chromium.new_page(viewport={"width": 1900, "height": 1000})
        trouble: list[str] = []
        page.on("pageerror", lambda error: trouble.append(str(error)))
        console: list[str] = []
        page.on("console", lambda message: console.append(message.text))
        page.goto(url)
        page.wait_for_function(READY, timeout=120_000)
        page.wait_for_timeout(2000)
        page.keyboard.press("Escape")  # the dialog of a first visit
        seen["prompts"] = {}
        for path in Path(workflow).parent.glob("*.json"):
            page.evaluate(LOAD, json.loads(path.read_text("utf-8")))
            seen["prompts"][path.stem] = page.evaluate("async () => (await app.graphToPrompt()).output")
        seen["blueprints"] = page.evaluate(BLUEPRINTS)
        page.evaluate(LOAD, json.loads(Path(workflow).read_text("utf-8")))
        page.wait_for_timeout(500)
        seen["missing"] = page.evaluate("() => app.graph.nodes.filter(n => !LiteGraph.registered_node_types[n.type]).map(n => n.type)")
        seen["titles"] = page.evaluate("() => app.graph.nodes.map(n => n.title)")
        seen["run"] = run(page)
        page.screenshot(path=str(Path(out) / "graph.png"))
        page.evaluate("""() => {
          const node = app.graph.nodes.find(n => n.type === 'GPENRestoreFaces');
          node.widgets.find(w => w.name === 'faces').value = 'the first one';
        }""")
        seen["reports"] = page.evaluate(REPORTS)
        seen["rows"] = page.evaluate(ROWS)
        seen["factor"] = page.evaluate(FACTOR)
        seen["saved"] = page.evaluate(SAVED)
        seen["widths"] = page.evaluate(WIDTHS)
        seen["wrong"] = run(page)
        details = page.get_by_text("View details")  # newer pages keep the message behind it
        if details.count():
            details.first.click()
            page.wait_for_timeout(700)
        seen["dialog"] = page.inner_text("body")
        page.screenshot(path=str(Path(out) / "error.png"))
        seen["languages"] = {language: in_language(page, language) for language in ("zh", "zh-TW")}
        page.evaluate(SPEAK, "en")
        seen["trouble"] = trouble
        seen["console"] = console
        chromium.close()
    sys.stdout.write(json.dumps(seen))


if __name__ == "__main__":
    main()
