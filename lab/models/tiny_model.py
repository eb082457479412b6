# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a language model of 2 MB that answers in sentences, without training: its weights are computed.

It is a Llama with one layer that any llama.cpp loads and runs. How the weights work, is in README.md.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from lab.models.gguf_file import GgufFile, Matrix, ones

NAME: Final = "homelab-tiny"
CONTEXT_TOKENS: Final = 512
WIDTH: Final = 256
HEAD_WIDTH: Final = 64
FEED_FORWARD_WIDTH: Final = 32
NORM_EPSILON: Final = 1e-5
# So large that the slowest rotating pair of a head does not rotate within the context: position plays no part there.
ROPE_BASE: Final = 1e12

UNKNOWN, BEGIN, END = 0, 1, 2
_NORMAL, _UNKNOWN_TYPE, _CONTROL, _USER_DEFINED, _BYTE = 1, 2, 3, 4, 6
_SPACE = "\u2581"

# Only the last message is put to the model: its memory is one question long.
CHAT_TEMPLATE: Final = "{{ messages[-1]['content'] }}"


class Topic(NamedTuple):
    keywords: tuple[str, ...]
    answer: str


# The first topic answers when no keyword is found.
TOPICS: Final = (
    Topic(
        (),
        "Hello from your homelab cluster! I am a very small language model, and llama.cpp computes every word of this answer inside a Kubernetes pod. "
        "Ask me who made me, where my home is, or about GPUs.",
    ),
    Topic(
        ("Who", "who", "Name", "name", "made"),
        "My name is homelab-tiny: one transformer layer, one attention head at work, no training, all weights computed by hand.",
    ),
    Topic(
        ("Where", "where", "node", "pod"),
        "You find me behind a Service, in whichever pod Kubernetes placed on a healthy node; any other node forwards requests here.",
    ),
    Topic(
        ("GPU", "gpu", "Gpu", "graphics"),
        "This reply needed no GPU: two megabytes fit any processor. Bigger models will share real graphics cards by time-slicing.",
    ),
    Topic(("Ping", "ping"), "pong"),
)


class Vocabulary(NamedTuple):
    tokens: list[str]
    types: list[int]
    # keyword token -> topic
    keywords: dict[int, int]
    # answers as token ids, one list a topic
    answers: list[list[int]]


def pieces_of(answers: Sequence[str]) -> list[list[str]]:
    """Cut answers into pieces, each of which occurs once in all of them: a piece then determines its successor.

    A word seen before is joined with its neighbour. So is one of two characters: the tokenizer merges neighbours from characters up, and would find
    it in prompts. Without any such, it finds none of the longer pieces either.
    """
    taken: set[str] = set()
    result: list[list[str]] = []
    for answer in answers:
        pieces: list[str] = []
        pending = ""
        for number, word in enumerate(answer.split()):
            pending += word if number == 0 else _SPACE + word
            if pending not in taken and len(pending) > 2:
                taken.add(pending)
                pieces.append(pending)
                pending = ""
        while pending:
            if not pieces:
                raise ValueError(f"answer {answer!r} cannot be told from the answers before it: reword it")
            taken.discard(pieces[-1])
            pending = pieces.pop() + pending
            if pending not in taken:
                taken.add(pending)
                pieces.append(pending)
                pending = ""
        result.append(pieces)
    return result


def vocabulary(topics: Sequence[Topic] = TOPICS) -> Vocabulary:
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    types = [_UNKNOWN_TYPE, _CONTROL, _CONTROL] + [_BYTE] * 256
    keywords: dict[int, int] = {}
    for number, topic in enumerate(topics):
        for keyword in topic.keywords:
            keywords[len(tokens)] = number
            tokens.append(keyword)
            types.append(_USER_DEFINED)
    cut = pieces_of([topic.answer for topic in topics])
    answers: list[list[int]] = []
    for pieces in cut:
        answers.append(list(range(len(tokens), len(tokens) + len(pieces))))
        tokens += pieces
        types += [_NORMAL] * len(pieces)
    if repeated := {token for token in tokens if tokens.count(token) > 1}:
        raise ValueError(f"tokens must differ: {sorted(repeated)}")
    return Vocabulary(tokens, types, keywords, answers)


class Weights(NamedTuple):
    embedding: Matrix
    query: Matrix
    key: Matrix
    value: Matrix
    attention_output: Matrix
    output: Matrix


def weights(words: Vocabulary) -> Weights:
    topics = len(words.answers)
    pieces = [token for answer in words.answers for token in answer]
    # The directions of the residual stream: "this is prompt text", what was asked (one per topic, the first means "nothing known"), what to answer
    # (one per topic), and one per piece.
    prompt, asked, reply, piece = 0, 1, 1 + topics, 1 + 2 * topics
    if piece + len(pieces) > WIDTH:
        raise ValueError(f"the answers need {piece + len(pieces)} directions, the model has {WIDTH}: shorten them")
    direction = {token: piece + number for number, token in enumerate(pieces)}

    embedding = Matrix(len(words.tokens), WIDTH)
    for token in range(len(words.tokens)):
        if token in direction:
            embedding[token, direction[token]] = 1.0
        else:
            embedding[token, prompt] = 1.0
    embedding[BEGIN, asked] = 1.0
    for token, topic in words.keywords.items():
        embedding[token, asked + topic] = 1.0

    # RMS normalisation scales a vector of one unit entry to `single`, of two to `double`.
    single, double = math.sqrt(WIDTH), math.sqrt(WIDTH / 2)
    # With these the attention score is about 40 for a keyword, 20 for the beginning of the text, 0 for all else, so that softmax chooses.
    slow = HEAD_WIDTH - 2
    strength = math.sqrt(40.0 * math.sqrt(HEAD_WIDTH))
    query, key, value, attention_output = (Matrix(WIDTH, WIDTH) for _ in range(4))
    query[slow, prompt] = strength / double
    for topic in range(topics):
        key[slow, asked + topic] = strength / double / (1 if topic else 2)
        # The slight slope settles which of two topics in one question is answered.
        value[topic, asked + topic] = (1.0 - 0.1 * topic / topics) / double
        attention_output[reply + topic, topic] = 1.0

    output = Matrix(len(words.tokens), WIDTH)
    gain = 60.0 / single
    for topic, answer in enumerate(words.answers):
        output[answer[0], reply + topic] = gain
        for token, successor in zip(answer, [*answer[1:], END], strict=True):
            output[successor, direction[token]] = gain
    return Weights(embedding, query, key, value, attention_output, output)


def model(topics: Sequence[Topic] = TOPICS) -> GgufFile:
    words = vocabulary(topics)
    made = weights(words)
    file = GgufFile()
    file.add_string("general.architecture", "llama")
    file.add_string("general.name", NAME)
    file.add_string("general.license", "GPL-3.0-or-later")
    file.add_u32("general.file_type", 0)
    file.add_u32("llama.context_length", CONTEXT_TOKENS)
    file.add_u32("llama.embedding_length", WIDTH)
    file.add_u32("llama.block_count", 1)
    file.add_u32("llama.feed_forward_length", FEED_FORWARD_WIDTH)
    file.add_u32("llama.attention.head_count", WIDTH // HEAD_WIDTH)
    file.add_u32("llama.attention.head_count_kv", WIDTH // HEAD_WIDTH)
    file.add_f32("llama.attention.layer_norm_rms_epsilon", NORM_EPSILON)
    file.add_u32("llama.rope.dimension_count", HEAD_WIDTH)
    file.add_f32("llama.rope.freq_base", ROPE_BASE)
    file.add_u32("llama.vocab_size", len(words.tokens))
    file.add_string("tokenizer.ggml.model", "llama")
    file.add_strings("tokenizer.ggml.tokens", words.tokens)
    file.add_f32s("tokenizer.ggml.scores", [-float(number) for number in range(len(words.tokens))])
    file.add_i32s("tokenizer.ggml.token_type", words.types)
    file.add_u32("tokenizer.ggml.unknown_token_id", UNKNOWN)
    file.add_u32("tokenizer.ggml.bos_token_id", BEGIN)
    file.add_u32("tokenizer.ggml.eos_token_id", END)
    file.add_bool("tokenizer.ggml.add_bos_token", True)
    file.add_bool("tokenizer.ggml.add_space_prefix", False)
    file.add_string("tokenizer.chat_template", CHAT_TEMPLATE)
    file.add_matrix("token_embd.weight", made.embedding)
    file.add_vector("blk.0.attn_norm.weight", ones(WIDTH))
    file.add_matrix("blk.0.attn_q.weight", made.query)
    file.add_matrix("blk.0.attn_k.weight", made.key)
    file.add_matrix("blk.0.attn_v.weight", made.value)
    file.add_matrix("blk.0.attn_output.weight", made.attention_output)
    file.add_vector("blk.0.ffn_norm.weight", ones(WIDTH))
    file.add_matrix("blk.0.ffn_gate.weight", Matrix(FEED_FORWARD_WIDTH, WIDTH))
    file.add_matrix("blk.0.ffn_up.weight", Matrix(FEED_FORWARD_WIDTH, WIDTH))
    file.add_matrix("blk.0.ffn_down.weight", Matrix(WIDTH, FEED_FORWARD_WIDTH))
    file.add_vector("output_norm.weight", ones(WIDTH))
    file.add_matrix("output.weight", made.output)
    return file


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path, help="file to write, e.g. homelab-tiny.gguf")
    output: Path = parser.parse_args(arguments).output
    partial = output.with_name(output.name + ".partial")
    with partial.open("wb") as stream:
        model().write(stream)
    os.replace(partial, output)
    print(f"{output}: {output.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
