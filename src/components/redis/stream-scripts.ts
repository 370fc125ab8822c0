/** The scripts of pubsub.redis that publish, receive and settle. Their keys are those of `TopicKeys.group`. */
import { Script } from "./script.ts";
import { appendLua, moveLua, prelude } from "./stream-lua.ts";

/** Longer than any publish is tried, in milliseconds. */
const rememberMs = 60_000;

/** How many batches of one queue may be under way: so many answers are remembered. */
export const batchesUnderWay = 3;

/**
 * Appends events, once, and in the order of the batches: the last ones of a queue are remembered with what was answered.
 * Keys: the stream, delayed numbers, delayed events, the queue's memory. Arguments: limit and bound of the stream, the batch's number,
 * 1 when the batch before it must have been done; for each event "" and its data, or when it enters (0 for now), the number of its fields
 * and values, and those. Answers 0 when it is not the batch's turn, or lines, which cost less than a list: the batch's number, 1 when the
 * stream was there, 0 when not, then an id for each event, "" for a delayed one, and an error's text after "!".
 */
export const publishScript = new Script(`
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  ${appendLua}
  local number = tonumber(ARGV[3])
  local place = number % ${batchesUnderWay}
  local memory = redis.call('HMGET', KEYS[4], 'last', place)
  local last = tonumber(memory[1] or 0)
  if last >= number then
    if memory[2] and string.match(memory[2], '^%d+') == ARGV[3] then return memory[2] end
    return 0
  end
  if ARGV[4] == '1' and last ~= number - 1 then return 0 end
  local answers = {ARGV[3], redis.call('EXISTS', KEYS[1])}
  local at = 5
  while at <= #ARGV do
    local enters = tonumber(ARGV[at])
    local fields = {'data', ARGV[at + 1]}
    at = at + 2
    if enters then
      local count = tonumber(ARGV[at - 1])
      for i = 1, count do fields[i] = ARGV[at - 1 + i] end
      at = at + count
    end
    local answer = ''
    if enters and enters > now then
      local number = string.format('%016d', redis.call('HINCRBY', KEYS[3], '#', 1))
      redis.call('HSET', KEYS[3], number, cmsgpack.pack(fields))
      redis.call('ZADD', KEYS[2], enters, number)
    else
      answer = append(ARGV[1], ARGV[2], fields)
      if type(answer) == 'table' and answer.err then
        -- A replica takes no event at all: it is the script that fails, is sent again, and finds the primary.
        if string.find(answer.err, 'READONLY') then return answer end
        answer = '!' .. answer.err
      end
    end
    answers[#answers + 1] = answer
  end
  local lines = table.concat(answers, '\\n')
  redis.pcall('HSET', KEYS[4], 'last', number, place, lines)
  redis.call('PEXPIRE', KEYS[4], ${rememberMs})
  return lines
`);

/** Lets delayed events enter. Keys as for publishing; arguments: limit and bound. Answers when the next is due, or -1. */
export const moveScript = new Script(`
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  ${appendLua}
  ${moveLua}
  return move(KEYS[2], KEYS[3], ARGV[1], ARGV[2])
`);

/**
 * Takes events for a member. More arguments: how many, how many may be parked behind others of their key, limit and bound of the
 * stream. Answers "gone", or: entries; attempts of the first of them, those of the rest are 1; whether to ask again
 * at once; and when nothing came, the id of the last entry that the group has read ("" when new ones do not help),
 * the id of the last wake-up, and when the next event is due, in milliseconds from now, or -1.
 */
export const receiveScript = new Script(`${prelude}${appendLua}${moveLua}
  local max, mayPark = tonumber(ARGV[5]), tonumber(ARGV[6])
  if not redis.call('ZSCORE', members, me) then return 'gone' end
  local nextDelayed = move(delayed, payloads, ARGV[7], ARGV[8])
  local due = redis.call('ZRANGEBYSCORE', again, '-inf', now, 'LIMIT', 0, 1000)
  for _, id in ipairs(due) do
    redis.call('ZREM', again, id)
    redis.call('ZADD', back, score(id), id)
  end
  local entries, attempts = {}, {}
  -- Retention, or somebody else, has taken an event away that was back.
  local function lose(id)
    redis.call('XACK', stream, group, id)
    if not ordered then return end
    local all = redis.call('HGETALL', heads)
    for i = 1, #all, 2 do if all[i + 1] == id then release(id, all[i]) end end
  end
  while #entries < max do
    local id = redis.call('ZPOPMIN', back)[1]
    if not id then break end
    local claimed = redis.call('XCLAIM', stream, group, me, 0, id)
    if claimed[1] then
      entries[#entries + 1] = claimed[1]
      attempts[#entries] = redis.call('XPENDING', stream, group, id, id, 1)[1][4]
    else
      lose(id)
    end
  end
  local more, full, seen = 0, false, 0
  local already = ordered and tonumber(redis.call('HGET', meta, 'parked') or 0) or 0
  while #entries < max do
    if ordered and already + parkedMore >= mayPark then full = true; break end
    if seen >= 2000 then more = 1; break end
    local count = max - #entries
    if ordered then count = math.max(count, 100) end
    local reply = redis.pcall('XREADGROUP', 'GROUP', group, ordered and parked or me, 'COUNT', count, 'STREAMS', stream, '>')
    if reply and reply.err then
      if string.find(reply.err, 'NOGROUP') then return 'gone' end
      return reply
    end
    if not reply then break end
    local new = reply[1][2]
    seen = seen + #new
    if not ordered then
      for _, entry in ipairs(new) do entries[#entries + 1] = entry end
    else
      local out, stay = {}, {}
      for _, entry in ipairs(new) do
        local id = entry[1]
        if not admit(id, field(entry[2], 'key')) then
          stay[#stay + 1] = id
        elseif #entries < max then
          entries[#entries + 1] = entry
          out[#out + 1] = id
        else
          give(id)
          stay[#stay + 1] = id
        end
      end
      claim(me, out)
      claim(parked, stay, 0)
    end
  end
  finish()
  if #entries > 0 or more == 1 then return {entries, attempts, more} end
  local last = ''
  if not full then
    for _, one in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
      local info = pairsOf(one)
      if info.name == group then last = info['last-delivered-id'] end
    end
  end
  local lastWake = redis.call('XREVRANGE', wake, '+', '-', 'COUNT', 1)[1]
  local nextAgain = redis.call('ZRANGE', again, 0, 0, 'WITHSCORES')[2]
  local nearest = nextDelayed
  if nextAgain and (nearest < 0 or tonumber(nextAgain) < nearest) then nearest = tonumber(nextAgain) end
  if nearest >= 0 then nearest = math.max(nearest - now, 0) end
  return {entries, attempts, more, last, lastWake and lastWake[1] or '0', nearest}
`);

/** Arguments of each settlement: kind, id, ordering key, attempt, delay in milliseconds. */
const settlementArguments = 5;

/** Settles. More arguments: those of each settlement. Answers "gone", "woken" when something may be received now, or "ok". */
export const settleScript = new Script(`${prelude}
  if not redis.call('ZSCORE', members, me) then return 'gone' end
  local done = {}
  for at = 5, #ARGV, ${settlementArguments} do
    local kind, id, key, attempt, delay = ARGV[at], ARGV[at + 1], ARGV[at + 2], tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
    if kind == 'done' then
      done[#done + 1] = id
      release(id, key)
    else
      -- A settlement whose answer was lost comes twice; meanwhile the event may be somebody else's.
      local pending = redis.call('XPENDING', stream, group, id, id, 1)[1]
      if pending and pending[2] == me and pending[4] == attempt then
        claim(parked, {id}, kind == 'returned' and attempt - 1 or attempt)
        if kind == 'again' and delay > 0 then
          redis.call('ZADD', again, now + delay, id)
          woken = true
        else
          give(id)
        end
      end
    end
  end
  local settled = 0
  for first = 1, #done, 1000 do
    settled = settled + redis.call('XACK', stream, group, unpack(done, first, math.min(first + 999, #done)))
  end
  if settled > 0 then redis.call('HINCRBY', meta, 'settled', settled) end
  finish()
  return woken and 'woken' or 'ok'
`);
