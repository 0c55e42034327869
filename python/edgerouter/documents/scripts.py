"""Documents on a Redis server that keeps JSON: each step is a script, which the server runs as a whole.

A document is the JSON of the key ``documents:{NAME}:at:KEY``, for other programs to read. Beside it are a hash of
versions, a sorted set of keys, and for each value of an indexed field a sorted set of the keys that have it. Such a set
only narrows the search: a document is found by what it holds itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from edgerouter.documents.operations import (
    Collection,
    Document,
    DocumentPage,
    Operation,
    Rows,
    Scalar,
    T,
    as_json,
    checked,
    checked_field,
    checked_search,
    checked_version,
    first_version,
)

#: Documents that one script looks at, while the server does nothing else, and scripts for one page.
_EXAMINED = 512
_SCRIPTS = 128
#: Indexes of a collection; every change keeps all of them up.
_MOST_INDEXES = 32
_LONG_NUMBER = re.compile(r"[0-9]{19}")

#: Before each script. ``KEYS[1]``: the prefix of all keys. ``ARGV[1]``: the most bytes of a reply. The first call fails
#: on a server without JSON. ``plain``: a word for a text, number, boolean or null, from its JSON in a list; 5 is 5.0.
_PRELUDE = """
local prefix, most = KEYS[1], tonumber(ARGV[1])
local versions, ids, indexes = prefix .. 'versions', prefix .. 'ids', prefix .. 'indexes'
redis.call('JSON.TYPE', prefix .. 'at:')
local function at(id) return prefix .. 'at:' .. id end
local function plain(text)
  if not text or text == '[]' or string.find(text, '^%[[%[{]') then return nil end
  local value = cjson.decode(text)[1]
  if value == nil or value == cjson.null then return 'null' end
  if type(value) == 'string' then return 's' .. redis.sha1hex(value) end
  if type(value) == 'number' then return 'n' .. string.format('%.17g', value + 0) end
  return tostring(value)
end
local function field(id, name) return plain(redis.call('JSON.GET', at(id), '$.' .. name)) end
local function by(name, value) return prefix .. 'by:' .. name .. ':' .. value end
local function version_of(id)
  return redis.call('EXISTS', at(id)) == 1 and redis.call('HGET', versions, id)
end
local function values(id)
  local found = {}
  for _, name in ipairs(redis.call('HKEYS', indexes)) do found[name] = field(id, name) end
  return found
end
local function from(id) return id == '' and '-' or '(' .. id end
"""

#: The key.
_GET = """
local version = version_of(ARGV[2])
if not version then return {} end
local body = redis.call('JSON.GET', at(ARGV[2]))
if #body > most then return redis.error_reply('TOOLONG') end
return {version, body}
"""

#: The key, its JSON, the condition, the version of the condition, and that of a new document.
_PUT = """
local id, condition = ARGV[2], ARGV[4]
local version = version_of(id)
if condition == 'absent' and version then return {} end
if condition == 'version' and version ~= ARGV[5] then return {} end
local before = version and values(id) or {}
redis.call('JSON.SET', at(id), '$', ARGV[3])
version = version and string.format('%.0f', tonumber(version) + 1) or ARGV[6]
redis.call('HSET', versions, id, version)
redis.call('ZADD', ids, 0, id)
local after = values(id)
for name, value in pairs(before) do
  if value ~= after[name] then redis.call('ZREM', by(name, value), id) end
end
for name, value in pairs(after) do redis.call('ZADD', by(name, value), 0, id) end
return {version}
"""

#: The key, the condition and its version.
_DELETE = """
local id = ARGV[2]
local version = version_of(id)
if not version or ARGV[3] == 'version' and version ~= ARGV[4] then return {} end
for name, value in pairs(values(id)) do redis.call('ZREM', by(name, value), id) end
redis.call('DEL', at(id))
redis.call('HDEL', versions, id)
redis.call('ZREM', ids, id)
return {version}
"""

#: The key to begin after, the most documents, the most that are looked at, the bytes of those found before, and fields
#: with the JSON of their values in a list. The reply begins with the key to go on after, and the bytes.
_FIND = """
local wanted, keys, smallest = {}, ids, nil
for i = 6, #ARGV, 2 do
  local name, value = ARGV[i], plain(ARGV[i + 1])
  wanted[name] = value
  if redis.call('HGET', indexes, name) == 'ready' then
    local set = by(name, value)
    local size = redis.call('ZCARD', set)
    if not smallest or size < smallest then keys, smallest = set, size end
  end
end
local last, limit, examined, bytes = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local listed = redis.call('ZRANGEBYLEX', keys, from(last), '+', 'LIMIT', 0, examined)
local reply, is_full, count = {'', '0', '0'}, #listed == examined, 0
for _, id in ipairs(listed) do
  local version = version_of(id)
  for name, value in pairs(wanted) do
    if version and field(id, name) ~= value then version = false end
  end
  if version then
    local body = redis.call('JSON.GET', at(id))
    if bytes + #body > most then
      if bytes == 0 then return redis.error_reply('TOOLONG') end
      is_full, limit = true, count
      reply[3] = '1'
      break
    end
    bytes, count = bytes + #body, count + 1
    for _, part in ipairs({id, version, body}) do reply[#reply + 1] = part end
  end
  last = id
  if count >= limit then is_full = true break end
end
if is_full then reply[1] = last end
reply[2] = string.format('%.0f', bytes)
return reply
"""

#: The field, the key to begin after, the most documents that are looked at, and the most indexes.
_INDEX = """
local name, last = ARGV[2], ARGV[3]
local state = redis.call('HGET', indexes, name)
if state == 'ready' then return {''} end
if not state and redis.call('HLEN', indexes) >= tonumber(ARGV[5]) then return redis.error_reply('TOOMANY') end
redis.call('HSET', indexes, name, 'building')
local listed = redis.call('ZRANGEBYLEX', ids, from(last), '+', 'LIMIT', 0, tonumber(ARGV[4]))
for _, id in ipairs(listed) do
  local value = field(id, name)
  if value then redis.call('ZADD', by(name, value), 0, id) end
  last = id
end
if #listed == tonumber(ARGV[4]) then return {last} end
redis.call('HSET', indexes, name, 'ready')
return {''}
"""


class _Script(NamedTuple):
    """A script with its arguments. ``operation``: its name in metrics."""

    operation: str
    text: str
    prefix: str
    arguments: tuple[str, ...]

    def begin(self, binding: Any) -> Any:
        return binding.run(self.operation, _PRELUDE + self.text, self.prefix, self.arguments)

    def rows(self, result: Any) -> Rows:
        rows: Rows = result
        return rows


class Scripts(Collection):
    """The scripts of each operation."""

    def _step(self, operation: str, text: str, *arguments: str) -> _Script:
        return _Script(operation, text, f"documents:{{{self.name}}}:", arguments)

    def get(self, key: str) -> Operation[Document | None]:
        found = yield self._step("get", _GET, checked(key))
        return Document(key, int(found[0]), json.loads(found[1])) if found else None

    def write(self, key: str, body: str, if_absent: bool, if_version: int | None) -> Operation[int | None]:
        _refuse_long_numbers(body)
        condition = "absent" if if_absent else "always" if if_version is None else "version"
        version = yield self._step("put", _PUT, key, body, condition, str(if_version), str(first_version()))
        return int(version[0]) if version else None

    def delete(self, key: str, if_version: int | None) -> Operation[bool]:
        condition = "always" if checked_version(if_version) is None else "version"
        return bool((yield self._step("delete", _DELETE, checked(key), condition, str(if_version))))

    def find(self, where: Mapping[str, Scalar], cursor: str | None, limit: int) -> Operation[DocumentPage]:
        after = checked_search(where, cursor, limit)
        wanted: list[str] = []
        for field, value in where.items():
            wanted += [field, f"[{as_json(value, f'find: {field}')}]"]
        documents: list[Document] = []
        size = "0"
        for _ in range(_SCRIPTS):
            # One more than the page has: it is known then that there are further ones.
            lacking = limit + 1 - len(documents)
            arguments = (after, str(lacking), str(_EXAMINED), size, *wanted)
            after, size, is_full, *found = yield self._step("list", _FIND, *arguments)
            for at in range(0, len(found), 3):
                document = Document(found[at], int(found[at + 1]), json.loads(found[at + 2]))
                if all(_has(document.value, field, value) for field, value in where.items()):
                    documents.append(document)
            if len(documents) > limit:
                return DocumentPage(documents[:limit], documents[limit - 1].id)
            if not after or is_full == "1":
                break
        return DocumentPage(documents, after or None)

    def index(self, field: str) -> Operation[None]:
        checked_field(field, "index")
        after = ""
        while True:
            (after,) = yield self._step("put", _INDEX, field, after, str(_EXAMINED), str(_MOST_INDEXES))
            if not after:
                return

    def guarded(self, operation: Operation[T]) -> Operation[T]:
        return (yield from operation)


def _has(document: object, field: str, wanted: Scalar) -> bool:
    """True if a field has a value exactly: scripts compare numbers as floats, and long texts by a hash."""
    for name in field.split("."):
        if not isinstance(document, dict) or name not in document:
            return False
        document = document[name]
    return isinstance(document, bool) == isinstance(wanted, bool) and document == wanted


def _refuse_long_numbers(body: str) -> None:
    """Whole numbers of more than 64 bits, which the server would keep as floats."""
    if not _LONG_NUMBER.search(body):
        return

    def read(digits: str) -> int:
        number = int(digits)
        if not -(2**63) <= number < 2**63:
            raise ValueError(f"value: {digits[:24]}: has more than 64 bits, which Redis cannot keep; store text")
        return number

    json.loads(body, parse_int=read)
