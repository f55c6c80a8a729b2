"""The nodes' texts in every language: complete, translated, with the facts of the English ones, and tidy.

A language is a file in nodes/texts; whatever file is there is tested.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from typing import Any

import host
import pages
import pytest

PACK = pages.load_pack()
NODES = PACK.NODE_CLASS_MAPPINGS
ENGLISH = pages.english(PACK)
LANGUAGES = pages.languages()

# An encoding made for each language of ComfyUI's page: one for simplified Chinese has no traditional characters, one for Japanese neither.
ALPHABETS = {
    **{"zh": "gb2312", "zh-TW": "big5", "ja": "cp932", "ko": "euc_kr"},
    **{"fr": "cp1252", "es": "cp1252", "it": "cp1252", "pt-BR": "cp1252", "tr": "cp1254"},
    **{"ru": "cp1251", "ar": "cp1256", "fa": "cp1256", "he": "cp1255"},
}
# Letters in use that those encodings lack: the dot in names in Chinese; Persian's own letters.
MORE = {"zh": "·", "fa": "ی‌۰۱۲۳۴۵۶۷۸۹"}
FULL_STOP = {"zh": "。", "zh-TW": "。", "ja": "。"}
IN_LATIN_LETTERS = {"fr", "es", "it", "pt-BR", "tr"}
# Labels that may be the same as in English: names, and what is the same word in a language.
SAME = {"SEGS", "Segs"}
SAME_IN = {"fr": {"Image", "Occlusion"}, "es": {"Detector"}, "pt-BR": {"Detector"}, "tr": {"Model"}}
# Names and kinds that stay as they are in every language.
NAMES = (
    "GPEN",
    "ComfyUI",
    "facexlib",
    "BiSeNet",
    "FaceFusion",
    "XSeg",
    "KJNodes",
    "Impact Pack",
    "MediaPipe",
    "DWPose",
    "OpenPose",
    "SDPose",
    "Lanczos",
    "JPEG",
    "CelebAMask-HQ",
    "BBOX",
    "SEGS",
)
# What may also stay in Latin letters where they are not a language's own.
KEPT = {"Detailer", "SEG", "CPU", "GPU", "AI", "alpha", "NASA", "MB", *" ".join(NAMES).replace("-", " ").split()}
# What the page's translator takes for its own syntax.
SYNTAX = re.compile(r"[{}@|]")
NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?!\w*\.?\w)", re.ASCII)
# File and model names, types, places, lists of numbers.
EXACT = re.compile(r"\b(?:\w+[-_./])+\w+\b|\b(?:bf|fp)\d+\b|\bgpu:\d|\b\d[\d,.-]*,[\d,.-]*\d\b|\b\d+x\d+\b", re.ASCII)
CJK = r"[\u3001-\u30ff\u3400-\u9fff\uff01-\uff60]"


def pairs(language: str) -> dict[str, tuple[str, str]]:
    """Every text of the nodes, by where it is: English and translation."""
    own = pages.translated(PACK, pages.source_of(language))
    found: dict[str, tuple[str, str]] = {}
    for name, texts in ENGLISH.items():
        for part in ("display_name", "description"):
            found[f"{name} {part}"] = texts[part], own[name][part]
        for part in ("inputs", "outputs"):
            for key, text in texts[part].items():
                for what in ("name", "tooltip"):
                    found[f"{name} {part} {key} {what}"] = text[what], own[name][part][key][what]
    return found


def is_sentence(place: str) -> bool:
    return place.endswith(("tooltip", "description"))


def exact_in(text: str) -> set[str]:
    """What must not change: not words with a hyphen, such as black-and-white."""
    return {one for one in EXACT.findall(text) if re.search(r"[\d/_]|.[A-Z]", one)}


def choices_of(place: str) -> list[str]:
    """The words that a list offers, and the parts of a face that may be named."""
    name, part, key = (*place.split(), "", "")[:3]
    if part != "inputs":
        return []
    kind, _ = pages.inputs(PACK, name)[key]
    if key == "mask_regions":
        return re.search(r"any of (.+?) \(", ENGLISH[name][part][key]["tooltip"])[1].split(", ")
    return kind if isinstance(kind, list) else []


def offered(place: str, english: str) -> set[str]:
    """The words of this list, and those of others that the English text names."""
    others = {choice for name in NODES for key in ENGLISH[name]["inputs"] for choice in choices_of(f"{name} inputs {key}")}
    return {*choices_of(place), *(choice for choice in others if has_word(choice, english))}


def has_word(word: str, text: str) -> bool:
    return bool(re.search(rf"(?<![A-Za-z0-9_-]){re.escape(word)}(?![A-Za-z0-9_-])", text))


def mentions(place: str, english: str, own: dict[str, dict[str, Any]]) -> list[tuple[str, str]]:
    """Nodes and labels that an English text names, and what they are called in the other language."""
    found = []
    titles = {name: texts["display_name"].removesuffix(" (GPEN)") for name, texts in ENGLISH.items()}
    for name, title in sorted(titles.items(), key=lambda item: -len(item[1])):
        if title in english:
            found.append((title, own[name]["display_name"].removesuffix(" (GPEN)")))
            english = english.replace(title, "")
    name = place.split()[0]
    settings = {key: text for key, text in own[name]["inputs"].items() if pages.is_setting(pages.inputs(PACK, name)[key][0])}
    labels = {**own["GPENRestoreFaces"]["inputs"], **settings}  # a socket can have a setting's name: faces
    for key, label in {"faces": "Which faces", "detector": "Detector", "official": "Official"}.items():
        if has_word(label, english):
            found.append((label, labels[key]["name"]))
    return found


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_file_has_what_the_nodes_have(language):
    source = pages.source_of(language)
    assert set(source) == {"words", "inputs", "nodes"}
    assert set(source["words"]) == set(pages.WORDS) and set(source["nodes"]) == set(NODES)
    used = set()
    for name, node in NODES.items():
        _, _, outputs, own = source["nodes"][name]
        inputs = pages.inputs(PACK, name)
        assert len(outputs) == len(node.RETURN_TYPES), name
        assert set(own) <= set(inputs), f"{name} has no such inputs"
        asked = {
            "faces_option" if key == "faces" and pages.is_setting(kind) else key for key, (kind, _) in inputs.items() if key not in own
        }
        assert asked <= set(source["inputs"]), f"{name} is not all there"
        used |= asked
    assert set(source["inputs"]) == used, "no node has these inputs"


def test_there_are_no_files_of_a_language_or_node_that_is_gone():
    written = {path for folder in ("locales", "web/docs") for path in (host.ROOT / folder).rglob("*") if path.is_file()}
    assert written == {path for path in pages.files() if path.is_relative_to(host.ROOT)}


@pytest.mark.parametrize("language", LANGUAGES)
def test_nothing_is_left_in_english(language):
    allowed = SAME | SAME_IN.get(language, set())
    for place, (english, text) in pairs(language).items():
        assert text and (text != english or (text in allowed and not is_sentence(place))), f"{place}: {text}"
        if language in IN_LATIN_LETTERS:  # none of which has these words
            assert not re.search(r"\b(the|of|with|which|from|and)\b", text), f"{place}: {text}"
            continue
        kept = KEPT.union(*(re.findall(r"[\w-]+", choice) for choice in offered(place, english)))
        for word in re.findall(r"[A-Za-z][A-Za-z-]*", EXACT.sub("", text)):
            assert word in kept, f"{place}: {word} in {text}"


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_facts_are_those_of_the_english_text(language):
    """Numbers, file and model names, the words of lists, quoted words, other nodes and settings by their labels."""
    own = pages.translated(PACK, pages.source_of(language))
    for place, (english, text) in pairs(language).items():
        where = f"{place}: {text}"
        for exact in exact_in(english) | {name for name in NAMES if name in english}:
            assert exact in text, f"{exact} is not in {where}"
        if not is_sentence(place):
            continue
        numbers, there = (Counter(NUMBER.findall(one)) for one in (english, text))
        assert not numbers - there and set(there - numbers) <= {"1", "2"}, (
            f"{numbers} became {there} in {where}"
        )  # 1 and 2 may be words in English
        for word in (*choices_of(place), *re.findall(r"'(\w+)'|`(.+?)`", english)):
            word = word if isinstance(word, str) else "".join(word)
            assert has_word(word, text) or not has_word(word, english), f"{word} is not in {where}"
        for named, called in mentions(place, english, own):
            assert called in text, f"{named} is called {called}, not so in {where}"


@pytest.mark.parametrize("language", LANGUAGES)
def test_texts_are_tidy(language):
    source = pages.source_of(language)
    stop = FULL_STOP.get(language, ".")
    for place, (english, text) in {**pairs(language), **{f"words {key}": (key, word) for key, word in source["words"].items()}}.items():
        where = f"{place}: {text}"
        assert text == text.strip() and "  " not in text and re.sub("[\u200c\u00a0]", "", text).isprintable(), where
        assert unicodedata.normalize("NFC", text) == text, where
        assert not SYNTAX.search(text), where
        assert not re.search(r"[.,;:!?。、，；：！？]{2}", text.replace("...", "")), where
        assert not re.search(rf"{CJK}[.,;:!?()]|[(),;:!?]{CJK}", text), where
        for opening, closing in ("()", "（）", "「」", "“”", "«»", "『』", "[]"):
            assert text.count(opening) == text.count(closing), where
        alphabet = ALPHABETS[language]
        strange = {letter for letter in text if letter not in MORE.get(language, "") and not letter.encode(alphabet, "ignore")}
        assert not strange, f"{strange} in {where}"
        if is_sentence(place):
            assert text.rstrip(")）").endswith(stop), where
        else:
            assert not text.endswith((".", "。")), where
            assert text.endswith(" (GPEN)") == english.endswith(" (GPEN)"), where


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_node_has_one_name_for_two_inputs(language):
    for name, texts in pages.translated(PACK, pages.source_of(language)).items():
        for part in ("inputs", "outputs"):
            labels = [text["name"] for text in texts[part].values()]
            assert len(set(labels)) == len(labels), name


def width(text: str) -> int:
    """In Latin letters; those of China, Japan and Korea are as wide as two."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


@pytest.mark.parametrize("language", ["en", *LANGUAGES])
def test_labels_fit_into_their_rows(language):
    """A node is as wide as its title, but at least 310 pixels: there the page cuts a label that does not fit beside its longest choice."""
    texts = ENGLISH if language == "en" else pages.translated(PACK, pages.source_of(language))
    for name, own in texts.items():
        title = own["display_name"]  # the page makes a node wider for more letters, without asking how wide they are
        assert width(title) <= (42 if width(title) == len(title) else 34), title
        for key, text in own["inputs"].items():
            choices = choices_of(f"{name} inputs {key}") if key not in ("model", "mask_regions") else []
            assert width(text["name"]) <= min(28, 36 - max(map(width, choices), default=0)), f"{name}: {text['name']}"


def test_only_languages_that_the_page_has():
    """In any other language, such as German, the page would translate only these nodes, amid English."""
    page = {"en", "zh", "zh-TW", "ru", "ja", "ko", "fr", "es", "ar", "tr"}  # 1.32.9's
    page |= {"pt-BR", "fa", "he", "it"}  # came by 1.58.1
    assert {path.name for path in (host.ROOT / "locales").iterdir()} <= page == {"en", *ALPHABETS}


@pytest.mark.parametrize("name", NODES)
@pytest.mark.parametrize("language", ["en", *LANGUAGES])
def test_help_pages_name_what_the_node_shows(name, language):
    """As lists, by the labels: tables of keys are too wide for the page's help panel."""
    texts = json.loads((host.ROOT / "locales" / language / "nodeDefs.json").read_text("utf-8"))[name]
    page = pages.help_place(language, name).read_text("utf-8")
    assert page.startswith(f"# {texts['display_name']}\n") and "|" not in page
    for part in ("inputs", "outputs"):
        for text in texts[part].values():
            assert re.search(rf"^- \*\*{re.escape(text['name'])}\*\* \(.+\)\u00a0?: {re.escape(text['tooltip'])}$", page, re.MULTILINE)
