/**
 * What the scripts of pubsub.redis have in common.
 *
 * A group is a consumer group of Redis. Who has an event is in Redis's own list of pending entries, with how often
 * it was received. What nobody has now is there under the name of `parked`, and besides in one of:
 *
 * - `back`, a sorted set: may be received, before anything new;
 * - `again`, a sorted set: may be received from a time on;
 * - a lane, one list for each ordering key: waits for those of its key before it. `heads` says which
 *   event of a key is not behind others: the one that is out, or back, or waits for its time.
 *
 * `members` has the members and when they are thought to be dead: they say every second that they are not.
 */

/** Who has what nobody has. Shown by XINFO CONSUMERS and XPENDING. */
const parkedConsumer = "outrider:parked";

/** Keys, arguments that every script of a group has, and the time. */
export const prelude = `
  local stream, members, back, again, heads, meta, wake, delayed, payloads, broadcasts = unpack(KEYS)
  local group, me, lanes, ordered = ARGV[1], ARGV[2], ARGV[3], ARGV[4] == '1'
  local parked = '${parkedConsumer}'
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  local parkedMore, woken = 0, false
  -- A Redis without memory refuses what may take some, unless something was written before it: who looks after a group makes room.
  redis.call('HDEL', meta, '')
  -- Ids in their order, as far as a number holds them; the rest is in the order of their texts.
  local function score(id)
    local ms, seq = string.match(id, '^(%d+)%-(%d+)$')
    return tonumber(ms) + math.min(tonumber(seq), 4095) / 4096
  end
  local function give(id)
    redis.call('ZADD', back, score(id), id)
    woken = true
  end
  local function claim(consumer, ids, attempts)
    for first = 1, #ids, 1000 do
      local args = {'XCLAIM', stream, group, consumer, 0}
      for i = first, math.min(first + 999, #ids) do args[#args + 1] = ids[i] end
      args[#args + 1] = 'JUSTID'
      if attempts then args[#args + 1] = 'RETRYCOUNT'; args[#args + 1] = attempts end
      redis.call(unpack(args))
    end
  end
  local function field(fields, name)
    for i = 1, #fields, 2 do if fields[i] == name then return fields[i + 1] end end
    return ''
  end
  -- Whether an event is not behind others of its key.
  local function admit(id, key)
    if not ordered or key == '' or redis.call('HSETNX', heads, key, id) == 1 then return true end
    redis.call('RPUSH', lanes .. key, id)
    parkedMore = parkedMore + 1
    return false
  end
  -- An event is settled: the next of its key may be received.
  local function release(id, key)
    if not ordered or key == '' or redis.call('HGET', heads, key) ~= id then return end
    local after = redis.call('LPOP', lanes .. key)
    if after then
      parkedMore = parkedMore - 1
      redis.call('HSET', heads, key, after)
      give(after)
    else
      redis.call('HDEL', heads, key)
    end
  end
  local function finish()
    if parkedMore ~= 0 then redis.call('HINCRBY', meta, 'parked', parkedMore) end
    if woken then redis.call('XADD', wake, 'MAXLEN', 1, '*', 'w', 1) end
  end
  local function pairsOf(flat)
    local map = {}
    for i = 1, #flat, 2 do map[flat[i]] = flat[i + 1] end
    return map
  end
`;

/** Puts what a member held among what may be received; how often each was received stays as it is, or is one less. */
export const giveBackLua = `
  local function giveBack(consumer, keep, uncount)
    local from = '-'
    while true do
      local pending = redis.call('XPENDING', stream, group, from, '+', 500, consumer)
      local counted = {}
      for _, entry in ipairs(pending) do
        local id, count = entry[1], entry[4]
        from = '(' .. id
        if not keep[id] then
          if uncount then count = math.max(count - 1, 0) end
          counted[count] = counted[count] or {}
          table.insert(counted[count], id)
          give(id)
        end
      end
      for count, ids in pairs(counted) do claim(parked, ids, count) end
      if #pending < 500 then return end
    end
  end
  local function bury(consumer)
    giveBack(consumer, {}, false)
    redis.call('XGROUP', 'DELCONSUMER', stream, group, consumer)
    redis.call('ZREM', members, consumer)
  end
`;

/** Appends to the stream, and keeps its limits. `limit` is "" or MAXLEN or MINID. */
export const appendLua = `
  local function append(limit, bound, fields)
    if limit == 'MINID' then bound = (now - bound) .. '-0' end
    if limit == '' then return redis.pcall('XADD', KEYS[1], '*', unpack(fields)) end
    return redis.pcall('XADD', KEYS[1], limit, '~', bound, '*', unpack(fields))
  end
`;

/** Lets delayed events enter whose time has come. Answers when the next one is due, -1 for none. */
export const moveLua = `
  local function move(delayed, payloads, limit, bound)
    local due = redis.call('ZRANGEBYSCORE', delayed, '-inf', now, 'LIMIT', 0, 200)
    for _, number in ipairs(due) do
      local packed = redis.call('HGET', payloads, number)
      if packed then
        local added = append(limit, bound, cmsgpack.unpack(packed))
        if type(added) == 'table' and added.err then return now + 1000 end
      end
      redis.call('ZREM', delayed, number)
      redis.call('HDEL', payloads, number)
    end
    local after = redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')
    return after[2] and tonumber(after[2]) or -1
  end
`;
