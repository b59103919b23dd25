"""Which calls a control rule is for: by path and values, then by count or by share, the same in every run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from hashlib import blake2b

from local.partners.document import Rule
from local.partners.partner import under


class ActiveRule:
    """A rule in force, with the calls it has met so far."""

    __slots__ = ("_each", "_met", "index", "rule")

    def __init__(self, index: int, rule: Rule) -> None:
        self.index = index
        self.rule = rule
        self._met = 0
        self._each: Counter[str] = Counter()

    def takes(self, path: str, query: Mapping[str, str], body: bytes = b"") -> bool:
        """Count the call if path and values match, and tell whether the rule applies to it.

        A question is a path with its values. The draw for `share` depends on the question and on how often
        it was asked, not on the order of different questions: concurrent callers see the same faults in
        every run, and a retry is drawn anew.
        """
        rule = self.rule
        if not under(path, rule.path):
            return False
        if any(query.get(name) not in wanted for name, wanted in rule.match.items()):
            return False
        if rule.contains is not None and rule.contains.encode() not in body:
            return False
        self._met += 1
        if self._met <= rule.after:
            return False
        if rule.count is not None:
            return self._met <= rule.after + rule.count
        if rule.count_each is None and rule.share is None:
            return True
        question = f"{path}?{sorted(query.items())}"
        self._each[question] += 1
        attempt = self._each[question]
        if rule.count_each is not None:
            return attempt <= rule.count_each
        digest = blake2b(f"{rule.seed}:{attempt}:{question}".encode(), digest_size=8).digest()
        return int.from_bytes(digest) < (rule.share or 0) * 2**64
