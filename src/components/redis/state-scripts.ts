/**
 * The scripts of state.redis. An item is a hash: `data` and `version` as Dapr has them, and beside them what is
 * ours. `etag` begins with the version it was given with: when that is not the version any more, somebody else
 * has written the item, and what is ours says nothing about it.
 */
import { notePrefix } from "../../blocks/state/keys.ts";
import { Script } from "./script.ts";

/** The etag of the item at a key; nil when there is none. Words of other types are an error, before anything is written. */
const current = `
  local function current(key)
    if redis.call('TYPE', key).ok == 'none' then return nil end
    local fields = redis.call('HMGET', key, 'version', 'etag')
    local version, etag = fields[1] or '0', fields[2]
    if not etag then return version end
    if string.sub(etag, 1, #version + 1) == version .. '.' then return etag end
    return version .. '@' .. etag
  end
  local function refuses(key, precondition, etag)
    local now = current(key)
    return (precondition == 'absent' and now) or (precondition == 'etag' and now ~= etag)
  end
  local function describe(key, contentType, metadata, expires)
    local set, unset = {}, {}
    local function put(field, value)
      if value == '' then unset[#unset + 1] = field else set[#set + 1] = field; set[#set + 1] = value end
    end
    put('contentType', contentType)
    put('metadata', metadata)
    put('expires', expires)
    if #set > 0 then redis.call('HSET', key, unpack(set)) end
    if #unset > 0 then redis.call('HDEL', key, unpack(unset)) end
    if expires == '' then redis.call('PERSIST', key) else redis.call('PEXPIREAT', key, expires) end
  end
`;

/** Arguments of each write, in order: `writeArguments` of them. */
const writeArguments = 9;

/**
 * Applies writes, all or none. For each key: "set" or "delete", "" or "absent" or "etag", the etag, what makes the new
 * etag unique, content type, metadata as JSON, expiry in milliseconds since 1970 or "", the value, and its
 * length if it is too long for one field, else "". One key more is that of the index of notes, which is kept then.
 * Answers the etags, or the number of the key (from 0) that is at fault.
 */
export const writeScript = new Script(`${current}
  local count = #ARGV / ${writeArguments}
  local index = KEYS[count + 1]
  for i = 1, count do
    local at = (i - 1) * ${writeArguments}
    if refuses(KEYS[i], ARGV[at + 2], ARGV[at + 3]) then return i - 1 end
  end
  local etags = {}
  for i = 1, count do
    local key, at = KEYS[i], (i - 1) * ${writeArguments}
    if index and string.sub(key, 1, ${notePrefix.length}) == '${notePrefix}' then
      if ARGV[at + 1] == 'delete' then redis.call('ZREM', index, key) else redis.call('ZADD', index, 0, key) end
    end
    if ARGV[at + 1] == 'delete' then
      redis.call('DEL', key)
      etags[i] = ''
    else
      local before = redis.call('HMGET', key, 'version', 'bytes')
      if before[2] then
        redis.call('DEL', key)
        redis.call('HSET', key, 'version', before[1])
      end
      local etag = redis.call('HINCRBY', key, 'version', 1) .. '.' .. ARGV[at + 4]
      if ARGV[at + 9] == '' then
        redis.call('HSET', key, 'data', ARGV[at + 8], 'etag', etag)
      else
        redis.call('HDEL', key, 'data')
        redis.call('HSET', key, 'bytes', ARGV[at + 9], 'etag', etag)
        local value, piece = ARGV[at + 8], 262144
        for first = 1, #value, piece do
          redis.call('HSET', key, 'data.' .. ((first - 1) / piece), string.sub(value, first, first + piece - 1))
        end
      end
      describe(key, ARGV[at + 5], ARGV[at + 6], ARGV[at + 7])
      etags[i] = etag
    end
  end
  return etags
`);

/**
 * Makes an item of the pieces at the second key. Arguments: precondition, etag, what makes the new etag unique, content type,
 * metadata, expiry, the number of pieces, and the value's length if it is to stay in pieces, else "". Answers the etag, or 0.
 */
export const finishUploadScript = new Script(`${current}
  local key, upload = KEYS[1], KEYS[2]
  if refuses(key, ARGV[1], ARGV[2]) then
    redis.call('UNLINK', upload)
    return 0
  end
  if redis.call('HLEN', upload) ~= tonumber(ARGV[7]) then return redis.error_reply('ERR the pieces of the value are gone') end
  local version = redis.call('HGET', key, 'version') or '0'
  redis.call('DEL', key)
  if ARGV[8] == '' then
    local pieces = {}
    for i = 1, tonumber(ARGV[7]) do pieces[i] = redis.call('HGET', upload, 'data.' .. (i - 1)) end
    redis.call('UNLINK', upload)
    redis.call('HSET', key, 'data', table.concat(pieces))
  else
    redis.call('RENAME', upload, key)
    redis.call('HSET', key, 'bytes', ARGV[8])
  end
  redis.call('HSET', key, 'version', version)
  local etag = redis.call('HINCRBY', key, 'version', 1) .. '.' .. ARGV[3]
  redis.call('HSET', key, 'etag', etag)
  describe(key, ARGV[4], ARGV[5], ARGV[6])
  return etag
`);
