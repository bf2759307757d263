"""Chat templates in the manner of many families of models, and tokenizers of several kinds.

The templates are written anew, with the marks, the order and the quirks of each family.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import Any

LOOP = "{% for m in messages %}"
END = "{% endfor %}"


@dataclass(frozen=True)
class Family:
    """A template with the tokens that it writes.

    Attributes:
        special: names of its special tokens.
        end: the token that ends an answer; None: a text does.
        text: the text that ends an answer.
        added: names of added tokens that are not special.
    """

    template: str
    special: tuple[str, ...]
    end: str | None
    text: str | None = None
    added: tuple[str, ...] = ()


def tagged(before: str, after: str, prompt: str) -> str:
    """Turns of the form that ChatML has; ROLE stands for the name of the role."""
    name = "' + m['role'] + '"
    return (
        f"{LOOP}{{{{ '{before.replace('ROLE', name)}' + m['content'] + '{after}' }}}}{END}"
        f"{{% if add_generation_prompt %}}{{{{ '{prompt}' }}}}{{% endif %}}"
    )


def by_role(user: str, assistant: str, system: str | None, prompt: str = "") -> str:
    """Turns with an expression of their own for every role; None: a system turn is an error."""
    refused = "raise_exception('System role not supported')"
    return (
        f"{LOOP}{{% if m['role'] == 'user' %}}{{{{ {user} }}}}"
        f"{{% elif m['role'] == 'assistant' %}}{{{{ {assistant} }}}}"
        f"{{% else %}}{{{{ {system or refused} }}}}{{% endif %}}{END}"
        f"{{% if add_generation_prompt %}}{{{{ '{prompt}' }}}}{{% endif %}}"
    )


C = "m['content']"
IM = ("<|im_start|>", "<|im_end|>")

FAMILIES = {
    "chatml": Family(
        tagged("<|im_start|>ROLE\\n", "<|im_end|>\\n", "<|im_start|>assistant\\n"), IM, IM[1]
    ),
    "chatml, default system": Family(
        "{% if messages[0]['role'] != 'system' %}"
        "<|im_start|>system\nYou help.<|im_end|>\n{% endif %}"
        + tagged("<|im_start|>ROLE\\n", "<|im_end|>\\n", "<|im_start|>assistant\\n"),
        IM,
        IM[1],
    ),
    "thinking, dropped from earlier turns": Family(
        "{% set ns = namespace(last=0) %}{% for m in messages %}{% if m.role == 'user' %}"
        "{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
        "{% for m in messages %}{% set content = m.content %}{% if m.role == 'assistant' %}"
        "{% if '</think>' in content %}"
        "{% set content = content.split('</think>')[-1].lstrip('\\n') %}"
        "{% endif %}{% if loop.index0 > ns.last %}"
        "{% set content = '<think>\\n\\n</think>\\n\\n' + content %}{% endif %}{% endif %}"
        "{{ '<|im_start|>' + m.role + '\\n' + content + '<|im_end|>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
        IM,
        IM[1],
        added=("<think>", "</think>"),
    ),
    "thinking, begun by the prompt": Family(
        by_role(
            f"'<\uff5cUser\uff5c>' + {C}",
            f"'<\uff5cAssistant\uff5c>' + {C}.split('</think>')[-1] "
            "+ '<\uff5cend▁of▁sentence\uff5c>'",
            C,
            "<\uff5cAssistant\uff5c><think>\\n",
        ),
        ("<\uff5cUser\uff5c>", "<\uff5cAssistant\uff5c>", "<\uff5cend▁of▁sentence\uff5c>"),
        "<\uff5cend▁of▁sentence\uff5c>",
        added=("<think>", "</think>"),
    ),
    "llama 2": Family(
        "{% if messages[0].role == 'system' %}{% set rest = messages[1:] %}"
        "{% set head = '<<SYS>>\\n' + messages[0].content + '\\n<</SYS>>\\n\\n' %}"
        "{% else %}{% set rest = messages %}{% set head = '' %}{% endif %}"
        "{% for m in rest %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('Roles must alternate') }}{% endif %}"
        "{% set content = head + m.content if loop.first else m.content %}"
        "{% if m.role == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
        "{% else %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}",
        (),
        "</s>",
    ),
    "llama 3": Family(
        "{{ bos_token }}"
        + tagged(
            "<|start_header_id|>ROLE<|end_header_id|>\\n\\n",
            "<|eot_id|>",
            "<|start_header_id|>assistant<|end_header_id|>\\n\\n",
        ).replace("m['content']", "(m['content'] | trim)"),
        ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        "<|eot_id|>",
    ),
    "llama 3.2, with a date": Family(
        "{% if not date_string is defined %}{% if strftime_now is defined %}"
        "{% set date_string = strftime_now('%d %b %Y') %}{% else %}"
        "{% set date_string = '26 Jul 2024' %}{% endif %}{% endif %}"
        "{{ 'Today Date: ' + date_string + '\\n\\n' }}"
        + tagged("<|header|>ROLE\\n", "<|eot_id|>", "<|header|>assistant\\n"),
        ("<|header|>", "<|eot_id|>"),
        "<|eot_id|>",
    ),
    "mistral 1": Family(
        by_role(f"'[INST] ' + {C} + ' [/INST]'", f"{C} + eos_token + ' '", None), (), "</s>"
    ),
    "mistral 3, instructions in the last question": Family(
        "{{ bos_token }}{% if messages[0].role == 'system' %}{% set system = messages[0].content %}"
        "{% set messages = messages[1:] %}{% endif %}{% for m in messages %}"
        "{% if m.role == 'user' %}{{ '[INST] ' }}{% if loop.last and system is defined %}"
        "{{ system + '\\n\\n' }}{% endif %}{{ m.content + '[/INST]' }}"
        "{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}",
        ("[INST]", "[/INST]"),
        "</s>",
    ),
    "mistral 7": Family(
        by_role(
            f"'[INST]' + {C} + '[/INST]'",
            f"{C} + eos_token",
            f"'[SYSTEM_PROMPT]' + {C} + '[/SYSTEM_PROMPT]'",
        ),
        ("[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"),
        "</s>",
    ),
    "gemma 1": Family(
        "{{ bos_token }}{% if messages[0].role == 'system' %}"
        "{{ raise_exception('System role not supported') }}{% endif %}"
        "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('Conversation roles must alternate') }}{% endif %}"
        "{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\\n' "
        "+ m.content | trim + '<end_of_turn>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}",
        (),
        "<end_of_turn>",
        added=("<start_of_turn>", "<end_of_turn>", "\n\n"),
    ),
    "phi 3": Family(
        tagged("<|ROLE|>\\n", "<|end|>\\n", "<|assistant|>\\n")
        + "{% if not add_generation_prompt %}{{ eos_token }}{% endif %}",
        ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
        "<|end|>",
    ),
    "phi 4": Family(
        tagged("<|im_start|>ROLE<|im_sep|>", "<|im_end|>", "<|im_start|>assistant<|im_sep|>"),
        (*IM, "<|im_sep|>"),
        IM[1],
    ),
    "zephyr, its names are no tokens": Family(
        tagged("<|ROLE|>\\n", "</s>\\n", "<|assistant|>\\n"), (), "</s>"
    ),
    "starchat": Family(
        tagged("<|ROLE|>\\n", "<|end|>\\n", "<|assistant|>\\n"),
        ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
        "<|end|>",
    ),
    "vicuna": Family(
        by_role(f"' USER: ' + {C}", f"' ASSISTANT: ' + {C} + eos_token", C, " ASSISTANT:"),
        (),
        "</s>",
    ),
    "alpaca": Family(
        by_role(
            f"'### Instruction:\\n' + {C} + '\\n\\n'",
            f"'### Response:\\n' + {C} + '\\n\\n'",
            f"{C} + '\\n\\n'",
            "### Response:\\n",
        ),
        (),
        None,
        "\n\n### Instruction:",
    ),
    "falcon": Family(
        LOOP
        + "{% if not loop.first %}{{ '\\n\\n' }}{% endif %}"
        + "{{ m.role.capitalize() + ': ' + m.content }}"
        + END
        + "{% if add_generation_prompt %}{{ '\\n\\nAssistant:' }}{% endif %}",
        (),
        None,
        "\n\nUser:",
    ),
    "an end that is no token": Family(
        tagged("<<ROLE>>\\n", "<<stop>>\\n", "<<assistant>>\\n"), (), None, "<<stop>>"
    ),
    "deepseek": Family(
        "{{ bos_token }}"
        + by_role(
            f"'User: ' + {C} + '\\n\\n'",
            f"'Assistant: ' + {C} + eos_token",
            f"{C} + '\\n\\n'",
            "Assistant:",
        ),
        (),
        "</s>",
    ),
    "olmo": Family(
        LOOP
        + "{% if m.role != 'assistant' %}{{ '<|' + m.role + '|>\\n' + m.content + '\\n' }}"
        + "{% else %}{{ '<|assistant|>\\n' + m.content + eos_token }}"
        + "{% if not loop.last %}{{ '\\n' }}{% endif %}{% endif %}"
        + END
        + "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}",
        (),
        "</s>",
    ),
    "granite": Family(
        tagged(
            "<|start_of_role|>ROLE<|end_of_role|>",
            "<|end_of_text|>\\n",
            "<|start_of_role|>assistant<|end_of_role|>",
        ),
        ("<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>"),
        "<|end_of_text|>",
    ),
    "command-r": Family(
        "{{ bos_token }}"
        + by_role(
            f"'<|START|><|USER|>' + {C} + '<|END|>'",
            f"'<|START|><|CHATBOT|>' + {C} + '<|END|>'",
            f"'<|START|><|SYSTEM|>' + {C} + '<|END|>'",
            "<|START|><|CHATBOT|>",
        ),
        ("<|START|>", "<|END|>", "<|USER|>", "<|CHATBOT|>", "<|SYSTEM|>"),
        "<|END|>",
    ),
    "harmony": Family(
        "{{ '<|start|>system<|message|>Current date: ' + strftime_now('%Y-%m-%d') + '<|end|>' }}"
        "{% for m in messages %}{% if m.role == 'assistant' %}"
        "{{ '<|start|>assistant<|channel|>final<|message|>' + m.content }}"
        "{% if loop.last and not add_generation_prompt %}<|return|>{% else %}<|end|>{% endif %}"
        "{% else %}{{ '<|start|>' + ('developer' if m.role == 'system' else m.role) "
        "+ '<|message|>' + m.content + '<|end|>' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|start|>assistant{% endif %}",
        ("<|start|>", "<|message|>", "<|channel|>", "<|end|>", "<|return|>"),
        "<|return|>",
    ),
    "glm, the next question ends an answer": Family(
        "[gMASK]<sop>" + tagged("<|ROLE|>\\n", "", "<|assistant|>"),
        ("[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>"),
        "<|user|>",
    ),
    "baichuan, reserved tokens": Family(
        by_role(f"'<reserved_106>' + {C}", f"'<reserved_107>' + {C}", C, "<reserved_107>"),
        ("<reserved_106>", "<reserved_107>"),
        "<reserved_106>",
    ),
    "nemotron": Family(
        by_role(
            f"'<extra_id_1>User\\n' + {C} + '\\n'",
            f"'<extra_id_1>Assistant\\n' + {C} + '\\n'",
            f"'<extra_id_0>System\\n' + {C} + '\\n'",
            "<extra_id_1>Assistant\\n",
        ),
        ("<extra_id_0>", "<extra_id_1>"),
        "<extra_id_1>",
    ),
    "generation blocks": Family(
        LOOP
        + "<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}{% generation %}"
        + "{{ m.content }}<|im_end|>{% endgeneration %}"
        + "{% else %}{{ m.content }}<|im_end|>{% endif %}\n"
        + END
        + "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        IM,
        IM[1],
    ),
    "instructions as JSON": Family(
        "{% if messages[0].role == 'system' %}{{ messages[0].content | tojson }}"
        "{% set messages = messages[1:] %}{% endif %}"
        + tagged("<|im_start|>ROLE\\n", "<|im_end|>\\n", "<|im_start|>assistant\\n"),
        IM,
        IM[1],
    ),
    "the prompt is always begun": Family(
        tagged("<|im_start|>ROLE\\n", "<|im_end|>\\n", "")
        + "{% if messages[-1].role == 'user' %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
        IM,
        IM[1],
    ),
}

KINDS = ("bytes", "pieces", "old pieces", "normalised", "lone words", "stripping")
"""bytes: byte-level BPE. pieces, old pieces: BPE that marks blanks, as SentencePiece does, with a
blank before the text or before every stretch. normalised: special tokens are compared after NFKC
and in lower case. lone words: they are tokens only where they stand alone. stripping: they take
white space with them."""


@cache
def tokenizer_of(family: str, kind: str = "bytes") -> Any:
    from tokenizers import (
        AddedToken,
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        trainers,
    )
    from transformers import PreTrainedTokenizerFast

    described = FAMILIES[family]
    text = "an answer <|im_end|>\n\n<|im_start|>user\n [INST] and [/INST]\n  </s> assistant</s>\n"
    alphabet = sorted({*map(chr, range(32, 127)), "\n", "▁", "\uff5c"})
    if kind in ("bytes", "lone words", "stripping", "normalised"):
        core = Tokenizer(models.BPE())
        core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        core.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    else:
        core = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
        if kind == "pieces":
            core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
        else:
            core.normalizer = normalizers.Sequence(
                [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
            )
        core.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
        )
    if kind == "normalised":
        core.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    core.train_from_iterator(
        [text * 4],
        trainers.BpeTrainer(
            vocab_size=700,
            show_progress=False,
            initial_alphabet=alphabet,
            special_tokens=["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
            if "pieces" in kind
            else [],
        ),
    )
    # A trainer calls the bytes special, which they are not.
    core = Tokenizer.from_str(json.dumps({**json.loads(core.to_str()), "added_tokens": []}))
    stripping = {"rstrip": True} if kind == "stripping" else {}
    marks = [
        AddedToken(
            name,
            special=name not in described.added,
            normalized=kind == "normalised",
            single_word=kind == "lone words",
            **stripping,
        )
        for name in ("<s>", "</s>", *described.special, *described.added)
        if name.strip() or kind == "bytes"
    ]
    core.add_tokens([mark for mark in marks if not mark.special])
    core.add_special_tokens([mark for mark in marks if mark.special])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>" if "pieces" in kind else None,
        chat_template=described.template,
    )
