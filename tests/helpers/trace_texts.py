"""Completions as reasoning models write them, by hand: twenty of each of six shapes.

A row: the answer format, the completion, the gold answer, the status, and whether it is right.
"""

from __future__ import annotations

Row = tuple[str, str, str, str, bool]

# The trace is closed, and the answer stands behind it.
CLOSED: list[Row] = [
    ("gsm8k", "<think>\n5 and 3 make 8.\n</think>\n5+3=8\n#### 8", "8", "ok", True),
    ("gsm8k", "<think>\nMaybe #### 7? No.\n</think>\n#### 8", "8", "ok", True),
    ("gsm8k", "<think>\nMaybe #### 7? No.\n</think>\n#### 8", "7", "ok", False),
    ("gsm8k", "<think>\n</think>\n\n#### 12", "12", "ok", True),
    ("gsm8k", "<think></think>#### $1,250", "1250", "ok", True),
    ("gsm8k", '<think>The answer goes after "####".</think> 4*6=24\n#### 24', "24", "ok", True),
    ("boxed", "<think>3 cats, 4 legs each.</think>\n\nThere are $\\boxed{12}$ legs.", "12", "ok", True),
    ("boxed", "<think>so 12</think>\n\n**Final Answer**\n\\boxed{12}", "12", "ok", True),
    ("boxed", "<think>so 12</think>\n\n### Solution\n\n3*4=12\n\n\\boxed{12}", "12", "ok", True),
    ("boxed", "<think>half</think> \\boxed{\\frac{1}{2}}", "0.5", "ok", True),
    ("boxed", "<think>half</think> \\boxed{\\frac{1}{2}}", "2", "ok", False),
    ("answer-is", "<think>The answer is 9? 3*4 is 12.</think>The answer is 12.", "12", "ok", True),
    ("answer-is", "<think>Hmm.</think>\n**Answer:** 12 legs", "12", "ok", True),
    ("answer-tag", "<think>I use <answer>9</answer>?</think><answer>12</answer>", "12", "ok", True),
    ("answer-tag", "<think>12</think>\n<answer>\n12\n</answer>", "12", "ok", True),
    ("last-number", "<think>9, 10, 11</think>\nThe cats have 12 legs.", "12", "ok", True),
    ("last-number", "<think>12</think>\nTwelve legs.", "12", "no_marker", False),
    ("auto", "<think>#### 9</think>\nThe final answer is 12.", "12", "ok", True),
    ("auto", "<think>\\boxed{9}</think>\nIn all 12 legs", "12", "ok", True),
    ("gsm8k", "I thought of 9, then of #### 9.\n</think>\n3*4=12\n#### 12", "12", "ok", True),  # its prompt opens it
]

# The trace never closes: there is no answer, whatever the model considered.
OPEN: list[Row] = [
    ("gsm8k", "<think>\nIs it #### 8? Let me look once more, because", "8", "open_trace", False),
    ("gsm8k", "<think>", "8", "open_trace", False),
    ("gsm8k", "<think>5+3=8\n#### 8", "8", "open_trace", False),
    ("gsm8k", "<think>5+3=8\n#### 8\n</thinking>\n#### 8", "8", "open_trace", False),
    ("gsm8k", "<think>5+3=8 </ think> #### 8", "8", "open_trace", False),
    ("boxed", "<think>So \\boxed{8}.\n\nBut wait,", "8", "open_trace", False),
    ("boxed", "<think>So \\boxed{8}.\n\n### Solution\n\\boxed{8}", "8", "open_trace", False),
    ("boxed", "\n\n<think>\n\n\\boxed{8}", "8", "open_trace", False),
    ("boxed", "Okay. <think>I will box it: \\boxed{8}", "8", "open_trace", False),
    ("answer-is", "<think>The answer is 8, I think. The answer is 8.", "8", "open_trace", False),
    ("answer-is", "<think>\n**Final Answer:** 8", "8", "open_trace", False),
    ("answer-tag", "<think>I will write <answer>8</answer>", "8", "open_trace", False),
    ("answer-tag", "<think><answer>8</answer></answer>", "8", "open_trace", False),
    ("last-number", "<think>5+3 makes 8", "8", "open_trace", False),
    ("last-number", "<think>8", "8", "open_trace", False),
    ("auto", "<think>#### 8 \\boxed{8} The answer is 8", "8", "open_trace", False),
    ("auto", "<think>8", "8", "open_trace", False),
    ("gsm8k", "<think>a</think><think>#### 8", "8", "open_trace", False),
    ("gsm8k", "<think><think>#### 8", "8", "open_trace", False),
    ("boxed", "<think>first</think>\n<think>second: \\boxed{8}", "8", "open_trace", False),
]

# Cut off at the token limit: in the trace, in a tag, or in the answer itself.
CUT: list[Row] = [
    ("gsm8k", "<think>\n5+3=8, so #### 8\n</thi", "8", "open_trace", False),
    ("gsm8k", "<think>\n5+3=8, so #### 8\n</think", "8", "open_trace", False),
    ("gsm8k", "<think>\n5+3=8\n</think>", "8", "no_marker", False),
    ("gsm8k", "<think>\n5+3=8\n</think>\n5+3=8\n###", "8", "no_marker", False),
    ("gsm8k", "<think>\n5+3=8\n</think>\n5+3=8\n####", "8", "not_a_number", False),
    ("gsm8k", "<think>\n5+3=8\n</think>\n5+3=8\n#### 8", "8", "ok", True),
    ("gsm8k", "<think>\n50+30=80\n</think>\n#### 8", "80", "ok", False),
    ("gsm8k", "<thi", "8", "no_marker", False),
    ("boxed", "<think>8</think>\nSo it is \\boxed{", "8", "not_a_number", False),
    ("boxed", "<think>8</think>\nSo it is \\boxed{8", "8", "ok", True),
    ("boxed", "<think>8</think>\nSo it is \\box", "8", "no_marker", False),
    ("boxed", "<think>\\boxed{8}", "8", "open_trace", False),
    ("boxed", "<think>\\boxed{8}</", "8", "open_trace", False),
    ("answer-is", "<think>8</think>\nThe answer is", "8", "not_a_number", False),
    ("answer-is", "<think>8</think>\nThe answer", "8", "no_marker", False),
    ("answer-tag", "<think>8</think>\n<answer>8</ans", "8", "no_marker", False),
    ("answer-tag", "<think>8</think>\n<answer>8</answer>", "8", "ok", True),
    ("last-number", "<think>8</think>\nIn all", "8", "no_marker", False),
    ("auto", "<think>#### 8</think>", "8", "no_marker", False),
    ("auto", "<think>#### 8</think>\nIt is 8", "8", "ok", True),
]

# A box, a marker or a tag inside the trace decides nothing.
BOXED_INSIDE: list[Row] = [
    ("boxed", "<think>Maybe \\boxed{7}. No.</think>\n\\boxed{8}", "8", "ok", True),
    ("boxed", "<think>Maybe \\boxed{7}. No.</think>\n\\boxed{8}", "7", "ok", False),
    ("boxed", "<think>Maybe \\boxed{8}. Yes.</think>\nSo it is 8.", "8", "no_marker", False),
    ("boxed", "<think>Maybe \\boxed{7}.\n</think>\n\n### Solution\n\n5+3=8\n\n\\boxed{8}", "8", "ok", True),
    ("boxed", "<think>Maybe \\boxed{7}.\n</think>\n\n**Solution:** 5+3=8, so \\boxed{8}", "8", "ok", True),
    ("boxed", "<think>Maybe \\boxed{7}.\n</think>\n\n### Problem\n5+3?\n\\boxed{8}", "7", "ok", False),
    ("boxed", "<think>\\boxed{7</think>\\boxed{8}", "8", "ok", True),
    ("boxed", "<think>$\\boxed{7}</think>$\\boxed{8}$", "8", "ok", True),
    ("boxed", "<think>\\boxed{x+1}</think>\\boxed{8}", "8", "ok", True),
    ("boxed", "<think>\\boxed{8}</think>\\boxed{x+1}", "8", "expression", False),
    ("gsm8k", "<think>#### 7\n#### 6</think>\n#### 8", "8", "ok", True),
    ("gsm8k", "<think>\\boxed{8}</think>\n#### 8 apples", "8", "ok", True),
    ("gsm8k", "<think>#### 8</think>\nThe answer is 8.", "8", "no_marker", False),
    ("answer-is", "<think>The answer is 7.</think> The answer is 8.", "8", "ok", True),
    ("answer-is", "<think>The answer is 8.</think> It is eight.", "8", "no_marker", False),
    ("answer-tag", "<think><answer>7</answer></think><answer>8</answer>", "8", "ok", True),
    ("answer-tag", "<think><answer></think>8</answer>", "8", "no_marker", False),
    ("last-number", "<think>\\boxed{7}</think> 8", "8", "ok", True),
    ("auto", "<think>\\boxed{7} <answer>7</answer> #### 7</think> The answer is 8", "8", "ok", True),
    ("auto", "\\boxed{7}? No, 8.</think>\\boxed{8}", "8", "ok", True),
]

# Several boxes, inside and behind the trace: the last one behind it is the answer.
SEVERAL_BOXES: list[Row] = [
    ("boxed", "<think>\\boxed{5} or \\boxed{6}</think>\\boxed{7}, rather \\boxed{8}", "8", "ok", True),
    ("boxed", "<think>\\boxed{5} or \\boxed{6}</think>\\boxed{7}, rather \\boxed{8}", "7", "ok", False),
    ("boxed", "<think>\\boxed{5}</think>\\boxed{8}\n\nProblem: 3+4?\n\\boxed{7}", "8", "ok", True),
    ("boxed", "<think>\\boxed{5}</think>\\boxed{8}\n\n**Solution 2**\n\\boxed{7}", "8", "ok", True),
    ("boxed", "<think>a</think>\\boxed{8}\n<think>\\boxed{7}?</think>\\boxed{9}", "9", "ok", True),
    ("boxed", "<think>a</think>\\boxed{8}\n<think>\\boxed{7}?</think>\\boxed{9}", "8", "ok", False),
    ("boxed", "<think>a</think>\\boxed{8}\n\nQuestion: 3+4?\n<think>\\boxed{6}</think>\\boxed{7}", "8", "ok", True),
    ("boxed", "<think>a</think>\\boxed{8}\n\nQ: 3+4?\n<think>\\boxed{6}", "8", "ok", True),
    ("boxed", "<think>a</think>\\boxed{8}\n<think>\\boxed{6}", "8", "open_trace", False),
    ("boxed", "<think>\\boxed{4}</think><think>\\boxed{5}</think>\\boxed{8}", "8", "ok", True),
    ("boxed", "<think>\\boxed{4}</think>\\boxed{5}</think>\\boxed{8}", "8", "ok", True),
    ("boxed", "<think>\\boxed{4} <think> \\boxed{5}</think>\\boxed{8}", "8", "ok", True),
    ("boxed", "<think>x</think>First \\boxed{3}, then \\boxed{5}: \\boxed{8}.", "8", "ok", True),
    ("boxed", "<think>x</think>First \\boxed{3}, then \\boxed{}.", "3", "ok", True),
    ("boxed", "<think>x</think>\\boxed{}\\boxed{}", "8", "not_a_number", False),
    ("gsm8k", "<think>#### 5\n#### 6</think>#### 7\n#### 8", "7", "ok", True),  # the first marker behind it
    ("answer-is", "<think>The answer is 5.</think>The answer is 7. No: the answer is 8.", "8", "ok", True),
    ("answer-tag", "<think>x</think><answer>7</answer><answer>8</answer>", "8", "ok", True),
    ("last-number", "<think>5 6</think>7 8", "8", "ok", True),
    ("auto", "<think>\\boxed{5}</think>\\boxed{7} #### 8", "8", "ok", True),
]

# An answer before the trace: it is looked for behind it, unless the heading of a new problem stands between.
BEFORE: list[Row] = [
    ("gsm8k", "#### 7\n<think>No, 5+3.</think>\n#### 8", "8", "ok", True),
    ("gsm8k", "#### 7\n<think>No, 5+3.</think>\n#### 8", "7", "ok", False),
    ("gsm8k", "#### 8\n<think>5+3 is 8.</think>", "8", "no_marker", False),
    ("gsm8k", "#### 8\n<think>Let me check:", "8", "open_trace", False),
    ("gsm8k", "#### 8\n\nQuestion: 2+2?\n<think>4</think>\n#### 4", "8", "ok", True),
    ("gsm8k", "#### 8\n\nQuestion: 2+2?\n<think>4</think>\n#### 4", "4", "ok", False),
    ("gsm8k", "#### 8\n\nQ: 2+2?\n<think>#### 4", "8", "ok", True),
    ("gsm8k", "Question: 5+3?\n#### 7\n<think>No.</think>\n#### 8", "8", "ok", True),
    ("boxed", "\\boxed{7} <think>No.</think> \\boxed{8}", "8", "ok", True),
    ("boxed", "\\boxed{8} <think>Yes.</think> Yes.", "8", "no_marker", False),
    ("boxed", "\\boxed{8}\n### Problem 2\n<think>\\boxed{4}</think>\\boxed{4}", "8", "ok", True),
    ("boxed", "\\boxed{7}\n### Solution\n<think>5+3</think>\\boxed{8}", "8", "ok", True),
    ("answer-is", "The answer is 7. <think>No.</think> The answer is 8.", "8", "ok", True),
    ("answer-is", "The answer is 8. <think>Is it?", "8", "open_trace", False),
    ("answer-tag", "<answer>7</answer><think>No.</think><answer>8</answer>", "8", "ok", True),
    ("answer-tag", "<answer>8</answer>\n\nHuman: 2+2?\n<think>4</think><answer>4</answer>", "8", "ok", True),
    ("last-number", "7 <think>no</think> 8", "8", "ok", True),
    ("last-number", "It is 8.\nQuestion: 2+2?\n<think>4</think> 4", "8", "ok", True),
    ("auto", "#### 7 <think>\\boxed{6}</think> So it is 8.", "8", "ok", True),
    ("auto", "The answer is 8. <think>\\boxed{6}</think>", "8", "no_marker", False),
]

SHAPES = {
    "closed": CLOSED,
    "open": OPEN,
    "cut": CUT,
    "boxed inside": BOXED_INSIDE,
    "several boxes": SEVERAL_BOXES,
    "answer before": BEFORE,
}
