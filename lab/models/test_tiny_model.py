# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The model is run here by a second, independent implementation of its arithmetic, over sparse weights."""

from __future__ import annotations

import hashlib
import io
import math

import pytest

from lab.models import tiny_model
from lab.models.gguf_file import Matrix
from lab.models.tiny_model import Topic

Vector = dict[int, float]


class Llama:
    """One layer, as published: RMS norm, attention with rotary positions, residual, RMS norm, logits. The feed-forward part is zero."""

    def __init__(self, words: tiny_model.Vocabulary) -> None:
        made = tiny_model.weights(words)
        self.words = words
        self.embedding = [{c: made.embedding[r, c] for c in range(tiny_model.WIDTH) if made.embedding[r, c]} for r in range(len(words.tokens))]
        self.query, self.key, self.value, self.mix, self.output = map(self.columns, (made.query, made.key, made.value, made.attention_output, made.output))

    @staticmethod
    def columns(matrix: Matrix) -> dict[int, Vector]:
        found: dict[int, Vector] = {}
        for row in range(matrix.rows):
            for column in range(matrix.columns):
                if weight := matrix[row, column]:
                    found.setdefault(column, {})[row] = weight
        return found

    @staticmethod
    def apply(columns: dict[int, Vector], vector: Vector) -> Vector:
        result: Vector = {}
        for column, entry in vector.items():
            for row, weight in columns.get(column, {}).items():
                result[row] = result.get(row, 0.0) + weight * entry
        return result

    @staticmethod
    def norm(vector: Vector) -> Vector:
        scale = 1 / math.sqrt(sum(entry * entry for entry in vector.values()) / tiny_model.WIDTH + tiny_model.NORM_EPSILON)
        return {at: entry * scale for at, entry in vector.items()}

    @staticmethod
    def rotate(vector: Vector, position: int) -> Vector:
        result: Vector = {}
        for at, entry in vector.items():
            pair = at % tiny_model.HEAD_WIDTH // 2 * 2
            angle = position * tiny_model.ROPE_BASE ** (-pair / tiny_model.HEAD_WIDTH)
            other, sign = (at + 1, 1) if at % 2 == 0 else (at - 1, -1)
            result[at] = result.get(at, 0.0) + entry * math.cos(angle)
            result[other] = result.get(other, 0.0) + sign * entry * math.sin(angle)
        return result

    def next_token(self, tokens: list[int]) -> tuple[int, float]:
        """The likeliest token and its lead in the logits."""
        inputs = [self.norm(self.embedding[token]) for token in tokens]
        query = self.rotate(self.apply(self.query, inputs[-1]), len(tokens) - 1)
        attended: Vector = {}
        for head in range(tiny_model.WIDTH // tiny_model.HEAD_WIDTH):
            part = range(head * tiny_model.HEAD_WIDTH, (head + 1) * tiny_model.HEAD_WIDTH)
            scores = []
            for position, entry in enumerate(inputs):
                key = self.rotate(self.apply(self.key, entry), position)
                scores.append(sum(query.get(at, 0.0) * key.get(at, 0.0) for at in part) / math.sqrt(tiny_model.HEAD_WIDTH))
            shares = [math.exp(score - max(scores)) for score in scores]
            for share, source in zip(shares, inputs, strict=True):
                for at, value in self.apply(self.value, source).items():
                    if at in part:
                        attended[at] = attended.get(at, 0.0) + value * share / sum(shares)
        state = dict(self.embedding[tokens[-1]])
        for at, value in self.apply(self.mix, attended).items():
            state[at] = state.get(at, 0.0) + value
        logits = [0.0] * len(self.words.tokens)
        for row, logit in self.apply(self.output, self.norm(state)).items():
            logits[row] = logit
        best = max(range(len(logits)), key=logits.__getitem__)
        return best, logits[best] - max(logit for token, logit in enumerate(logits) if token != best)

    def tokenize(self, text: str) -> list[int]:
        tokens, at = [tiny_model.BEGIN], 0
        keywords = sorted(self.words.keywords, key=lambda token: -len(self.words.tokens[token]))
        while at < len(text):
            match = next((token for token in keywords if text.startswith(self.words.tokens[token], at)), None)
            if match is not None:
                tokens.append(match)
                at += len(self.words.tokens[match])
            else:
                tokens += [3 + byte for byte in text[at].encode()]
                at += 1
        return tokens

    def answer(self, question: str) -> tuple[str, float]:
        tokens = self.tokenize(question)
        pieces: list[str] = []
        least = math.inf
        while len(pieces) < 100:
            token, lead = self.next_token(tokens)
            least = min(least, lead)
            if token == tiny_model.END:
                return "".join(pieces).replace("\u2581", " "), least
            tokens.append(token)
            pieces.append(self.words.tokens[token])
        raise AssertionError(f"no end: {pieces}")


@pytest.fixture(scope="module")
def llama() -> Llama:
    return Llama(tiny_model.vocabulary())


@pytest.mark.parametrize(
    ("question", "topic"),
    [
        ("", 0),
        ("Hello", 0),
        ("Grüße 🙂", 0),
        ("lorem ipsum " * 30, 0),
        ("Who are you?", 1),
        ("What is your name", 1),
        ("Where do you run?", 2),
        ("lorem ipsum " * 30 + "Where?" + " dolor" * 10, 2),
        ("Do you need a GPU?", 3),
        ("gpu gpu gpu", 3),
        ("ping", 4),
    ],
)
def test_greedy_answer_is_the_topic_s_text(llama: Llama, question: str, topic: int) -> None:
    answer, lead = llama.answer(question)
    assert answer == tiny_model.TOPICS[topic].answer
    # At the usual temperatures sampling then gives the same text.
    assert lead > 10


@pytest.mark.parametrize(("question", "topic"), [("Where is the GPU?", 2), ("GPU where?", 2), ("Who, where, GPU?", 1)])
def test_of_two_topics_the_earlier_in_the_list_is_answered(llama: Llama, question: str, topic: int) -> None:
    assert llama.answer(question)[0] == tiny_model.TOPICS[topic].answer


@pytest.mark.parametrize(
    ("answers", "pieces"),
    [
        (["one two"], [["one", "▁two"]]),
        (["the dog saw the cat"], [["the", "▁dog", "▁saw", "▁the", "▁cat"]]),
        (["go to the dog to the cat now"], [["go▁to", "▁the", "▁dog", "▁to", "▁the▁cat", "▁now"]]),
        (["big dog now", "now dog"], [["big", "▁dog", "▁now"], ["now▁dog"]]),
        (["dog one", "see one"], [["dog", "▁one"], ["see▁one"]]),
        (["I am a dog"], [["I▁am", "▁a▁dog"]]),
    ],
)
def test_pieces_are_unique(answers: list[str], pieces: list[list[str]]) -> None:
    assert tiny_model.pieces_of(answers) == pieces


def test_equal_answers_are_refused() -> None:
    with pytest.raises(ValueError, match="reword"):
        tiny_model.pieces_of(["pong", "pong"])


def test_no_piece_can_be_found_in_a_prompt() -> None:
    assert min(len(piece) for pieces in tiny_model.pieces_of(["a I b cd e", "we a it"]) for piece in pieces) > 2


def test_too_long_answers_are_refused() -> None:
    words = tiny_model.vocabulary([Topic((), " ".join(f"word{number}" for number in range(300)))])
    with pytest.raises(ValueError, match="shorten"):
        tiny_model.weights(words)


def test_equal_keywords_are_refused() -> None:
    with pytest.raises(ValueError, match="tokens must differ"):
        tiny_model.vocabulary([Topic((), "some text"), Topic(("key", "key"), "other words")])


def test_file_is_the_same_each_time() -> None:
    digests = set()
    for _ in range(2):
        stream = io.BytesIO()
        tiny_model.model().write(stream)
        digests.add(hashlib.sha256(stream.getvalue()).hexdigest())
    assert len(digests) == 1
