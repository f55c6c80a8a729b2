// Adds to ComfyUI's page what the GPEN nodes need: a report that stays on the node,
// Factor only where it applies, and the nodes' texts in the page's language.

import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";

const REPORT = "report";
const CATEGORY = "face restoration";
const WIDTH = 310; // fits the longest title and what the page draws beside it

/** Calls `more` after the method with that name, keeping other extensions' additions. */
function after(object, name, more) {
  const before = object[name];
  object[name] = function (...given) {
    const result = before?.apply(this, given);
    more.call(this, ...given);
    return result;
  };
}

const widgetOf = (node, name) => node.widgets?.find((widget) => widget.name === name);
const isLinked = (node, name) => node.inputs?.some((input) => input.widget?.name === name && input.link != null) ?? false;

/** Enlarges the node to fit its content. */
function fit(node) {
  const [width, height] = node.computeSize();
  node.setSize([Math.max(node.size[0], width), Math.max(node.size[1], height)]);
}

function showReport(node, text) {
  let widget = widgetOf(node, REPORT);
  if (!widget) {
    widget = app.widgets.STRING(node, REPORT, ["STRING", { multiline: true }], app).widget;
    // A result, not a setting: neither saved with the workflow nor sent to the server.
    widget.serialize = false;
    widget.options.serialize = false;
    widget.options.read_only = true;
    widget.label = textOr("nodeDefs.GPENDetectFaces.outputs.2.name", "Report");
    if (widget.element) widget.element.readOnly = true;
  }
  widget.value = text;
  fit(node);
  node.setDirtyCanvas?.(true, true);
}

/** Shows Factor if Output size is factor, or if either comes from another node. resize: changes the node's height by that row. */
function showFactor(node, resize = true) {
  const size = widgetOf(node, "output_size");
  const factor = widgetOf(node, "factor");
  if (!size || !factor) return;
  const hidden = size.value !== "factor" && !isLinked(node, "output_size") && !isLinked(node, "factor");
  if ((factor.hidden ?? false) === hidden) return;
  const before = node.computeSize()[1];
  factor.hidden = hidden; // for nodes drawn on a canvas
  factor.options.hidden = hidden; // for nodes rendered by Vue
  // On a canvas a hidden row still takes up space; -4 also removes the gap between two rows.
  if (hidden) factor.computeSize = () => [0, -4];
  else delete factor.computeSize;
  if (resize) node.setSize([node.size[0], node.size[1] + node.computeSize()[1] - before]);
  node.setDirtyCanvas?.(true, true);
}

/** The Vue app's translator: the only access to the page's texts. If it cannot be reached, ours stay English. */
function translator() {
  const provided = document.querySelector("#vue-app")?.__vue_app__?._context?.provides ?? {};
  const found = Reflect.ownKeys(provided).map((key) => provided[key]?.global);
  return found.find((one) => one?.mergeLocaleMessage);
}

/** A text of ours in the page's language. */
function textOr(key, english) {
  const texts = translator();
  return texts?.te?.(key) ? texts.t(key) : english;
}

/** Pages up to 1.32 (and some later) load a language's texts late and drop those of node packs, so ours are added again. */
async function bringTexts() {
  const texts = translator();
  const language = app.ui?.settings?.getSettingValue?.("Comfy.Locale");
  if (!texts || !language || language === "en") return;
  const now = () => texts.locale?.value ?? texts.locale;
  for (let waited = 0; now() !== language && waited < 3000; waited += 50) await new Promise((resolve) => setTimeout(resolve, 50));
  if (texts.getLocaleMessage(language)?.nodeDefs?.GPENRestoreFaces) return;
  const { nodeDefs = {}, nodeCategories = {} } = (await (await api.fetchApi("/i18n")).json())[language] ?? {};
  const ours = Object.fromEntries(Object.entries(nodeDefs).filter(([name]) => name.startsWith("GPEN")));
  const category = { [CATEGORY]: nodeCategories[CATEGORY] ?? CATEGORY };
  texts.mergeLocaleMessage(language, { nodeDefs: ours, nodeCategories: category });
}

/**
 * Translates the labels that our blueprints give the inputs shown on the outer node: the page (1.58) takes them from the saved inner nodes, and
 * the inputs' bare names where there are none. A label of the user's own stays.
 */
function translateLabels(node) {
  const english = translator()?.getLocaleMessage("en")?.nodeDefs?.[node.comfyClass]?.inputs ?? {};
  for (const input of node.inputs ?? []) {
    if (!input.widget || !input.label || !input.localized_name || input.label !== english[input.name]?.name) continue;
    input.label = input.localized_name;
    const row = widgetOf(node, input.name);
    if (row) row.label = input.localized_name;
  }
}

app.registerExtension({
  name: "GPEN.FaceRestoration",

  async init() {
    try {
      await bringTexts();
    } catch (error) {
      console.warn("GPEN: the nodes' texts stay English", error);
    }
  },

  beforeRegisterNodeDef(nodeType, nodeData) {
    if (!nodeData.name.startsWith("GPEN")) return;
    after(nodeType.prototype, "onExecuted", function (output) {
      if (output?.text?.[0]) showReport(this, output.text[0]);
    });
    after(nodeType.prototype, "onConfigure", function () {
      translateLabels(this);
      showFactor(this, false); // the workflow contains the node's size
      fit(this);
    });
    after(nodeType.prototype, "onConnectionsChange", function () {
      showFactor(this);
    });
  },

  nodeCreated(node) {
    if (!node.comfyClass?.startsWith("GPEN")) return;
    if (node.size[0] < WIDTH) node.setSize([WIDTH, node.size[1]]);
    const size = widgetOf(node, "output_size");
    if (!size) return;
    after(size, "callback", () => showFactor(node));
    showFactor(node);
  },

  /** Shows the reports of an earlier run again: in another tab of the page, or from the queue. */
  onNodeOutputsUpdated(outputs) {
    for (const [id, output] of Object.entries(outputs ?? {})) {
      const node = app.graph?.getNodeById?.(Number(id));
      if (node?.comfyClass?.startsWith("GPEN") && output?.text?.[0]) showReport(node, output.text[0]);
    }
  },
});
