/** The scripts of pubsub.redis about groups and their members. Their keys are those of `TopicKeys.group`. */
import { Script } from "./script.ts";
import { giveBackLua, prelude } from "./stream-lua.ts";

/** Removes what a group has beside its stream. */
const forgetLua = `
  local function forget(heads, lanes, ...)
    for _, key in ipairs(redis.call('HKEYS', heads)) do redis.call('DEL', lanes .. key) end
    redis.call('DEL', heads, ...)
  end
`;

/** Counts what the group has not settled, and what was ever added to the stream. Nil for what Redis does not tell. */
const countLua = `
  local function count()
    local groups = redis.pcall('XINFO', 'GROUPS', stream)
    if groups.err then return nil end
    local info = {}
    for _, one in ipairs(groups) do
      local each = pairsOf(one)
      if each.name == group then info = each end
    end
    local last = info['last-delivered-id']
    if not last then return nil end
    local whole = pairsOf(redis.call('XINFO', 'STREAM', stream))
    local first, unread, length, added = whole['first-entry'], info.lag, whole.length, whole['entries-added']
    -- Redis counts what was removed unread as unread for ever, and counts not at all where a group began in the middle: it is told.
    local function correct(value)
      unread = value
      if added and info.lag ~= value then redis.pcall('XGROUP', 'SETID', stream, group, last, 'ENTRIESREAD', added - value) end
    end
    local known = redis.call('HMGET', meta, 'base', 'settled')
    if not first or last == whole['last-generated-id'] then
      unread = 0
    elseif score(first[1]) > score(last) then
      correct(length)
    elseif unread then
      unread = math.min(unread, length)
    elseif known[1] and added then
      unread = math.max(math.min(added - known[1] - (known[2] or 0) - info.pending, length), 0)
    else
      local seen, from = 0, '(' .. last
      for _ = 1, 1000 do
        local page = redis.call('XRANGE', stream, from, '+', 'COUNT', 100)
        seen = seen + #page
        if #page < 100 then break end
        from = '(' .. page[#page][1]
      end
      correct(seen)
    end
    return info.pending + unread, added
  end
`;

/**
 * Joins a group, making it if it is not there. More arguments: the id after which it begins, how long a member lives that gives no
 * sign, and the same of the group itself if it ends with its members ("" otherwise). Answers whether the group was made, or
 * "disagree" when its members want the other order.
 */
export const joinScript = new Script(`${prelude}${giveBackLua}${forgetLua}${countLua}
  local start, lease, groupLease = ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7])
  local made = 0
  local created = redis.pcall('XGROUP', 'CREATE', stream, group, start, 'MKSTREAM')
  if type(created) == 'table' and created.err then
    if not string.find(created.err, 'BUSYGROUP') then return created end
  else
    made = 1
    forget(heads, lanes, members, back, again, meta)
  end
  local was = redis.call('HGET', meta, 'ordered')
  if was and was ~= ARGV[4] then
    for _, dead in ipairs(redis.call('ZRANGEBYSCORE', members, '-inf', now)) do bury(dead) end
    if redis.call('ZCARD', members) > 0 then return 'disagree' end
    forget(heads, lanes, back)
    parkedMore = 0
    redis.call('HSET', meta, 'parked', 0)
    local from = '-'
    while true do
      local pending = redis.call('XPENDING', stream, group, from, '+', 500, parked)
      for _, entry in ipairs(pending) do
        local id = entry[1]
        from = '(' .. id
        local key = ''
        if ordered then
          local found = redis.call('XRANGE', stream, id, id)[1]
          if found then key = field(found[2], 'key') end
        end
        if not admit(id, key) then
          redis.call('ZREM', again, id)
        elseif not redis.call('ZSCORE', again, id) then
          give(id)
        end
      end
      if #pending < 500 then break end
    end
  end
  redis.call('HSET', meta, 'ordered', ARGV[4])
  if redis.call('HEXISTS', meta, 'base') == 0 then
    local unsettled, added = count()
    if added then redis.call('HSET', meta, 'base', added - unsettled) end
  end
  redis.call('ZADD', members, now + lease, me)
  if groupLease then redis.call('ZADD', broadcasts, now + groupLease, group) end
  finish()
  return made
`);

/**
 * Leaves a group, giving back what the member has. More arguments: "1" to end the group too, and another name of the member if it may
 * have one. Answers "gone" or "ok".
 */
export const leaveScript = new Script(`${prelude}${giveBackLua}${forgetLua}
  if ARGV[5] == '1' then
    redis.pcall('XGROUP', 'DESTROY', stream, group)
    redis.call('ZREM', broadcasts, group)
    forget(heads, lanes, members, back, again, meta, wake)
    return 'ok'
  end
  if redis.pcall('XPENDING', stream, group).err then return 'gone' end
  local answer = 'gone'
  for _, name in ipairs({me, ARGV[6]}) do
    if redis.call('ZSCORE', members, name) then
      giveBack(name, {}, true)
      redis.call('XGROUP', 'DELCONSUMER', stream, group, name)
      redis.call('ZREM', members, name)
      answer = 'ok'
    end
  end
  finish()
  return answer
`);

/**
 * Has a member go on under another name, and gives back what it has but for the ids that follow: what was asked in the old name and is
 * done late concerns nobody. More arguments: the name, how long a member lives that gives no sign, the ids. Answers "gone", or the ids
 * that the member has now. May be repeated.
 */
export const renameScript = new Script(`${prelude}${giveBackLua}
  local name, lease = ARGV[5], tonumber(ARGV[6])
  if redis.pcall('XPENDING', stream, group).err then return 'gone' end
  local known = redis.call('ZSCORE', members, me)
  if not known and not redis.call('ZSCORE', members, name) then return 'gone' end
  if known then
    local keep = {}
    for i = 7, #ARGV do keep[ARGV[i]] = true end
    giveBack(me, keep, true)
    redis.call('ZADD', members, now + lease, name)
  end
  local function has(consumer, work)
    local from = '-'
    while true do
      local ids = {}
      for i, entry in ipairs(redis.call('XPENDING', stream, group, from, '+', 500, consumer)) do ids[i] = entry[1] end
      if #ids == 0 then return end
      work(ids)
      from = '(' .. ids[#ids]
    end
  end
  if known then
    has(me, function(ids) claim(name, ids) end)
    redis.call('XGROUP', 'DELCONSUMER', stream, group, me)
    redis.call('ZREM', members, me)
  end
  local kept = {}
  has(name, function(ids) for _, id in ipairs(ids) do kept[#kept + 1] = id end end)
  finish()
  return kept
`);

/**
 * Says that a member lives and, once a second for all of them, looks after the group: takes what the dead held, and what
 * consumers that are not ours have held for too long, removes what every group has settled, and groups that have ended. More arguments:
 * how long the member and the group live, how long a pause means that nobody looked, how long the dead live on after
 * one, after how long something is taken from foreign consumers (0: never) and how often that is looked for, how long what is settled stays and how
 * long anything stays (0: as long as it has to), whether to touch what the member holds, the prefix of keys. Answers "gone", or the
 * names of members that were found dead.
 */
export const beatScript = new Script(`${prelude}${giveBackLua}${forgetLua}
  local lease, groupLease, pause, grace = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
  local foreignIdle, foreignEvery, keepSettled, maxAge = tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11]), tonumber(ARGV[12])
  local touch, prefix = ARGV[13] == '1', ARGV[14]
  if not redis.call('ZSCORE', members, me) then return 'gone' end
  if redis.pcall('XPENDING', stream, group).err then return 'gone' end
  redis.call('ZADD', members, now + lease, me)
  if groupLease then redis.call('ZADD', broadcasts, now + groupLease, group) end
  if touch then
    local from = '-'
    while true do
      local pending = redis.call('XPENDING', stream, group, from, '+', 500, me)
      local ids = {}
      for i, entry in ipairs(pending) do ids[i] = entry[1] end
      claim(me, ids)
      if #pending < 500 then break end
      from = '(' .. ids[#ids]
    end
  end
  local times = redis.call('HMGET', meta, 'sweptAt', 'foreignAt')
  local sweptAt, foreignAt = tonumber(times[1] or 0), tonumber(times[2] or 0)
  if now - sweptAt < 950 and now >= sweptAt then return {} end
  redis.call('HSET', meta, 'sweptAt', now)
  local dead = redis.call('ZRANGEBYSCORE', members, '-inf', now)
  if now - sweptAt > pause then
    -- The server, or everybody, was away: those who live have not had the time to say so.
    for _, member in ipairs(dead) do redis.call('ZADD', members, now + grace, member) end
    dead = {}
  end
  for _, member in ipairs(dead) do bury(member) end
  if foreignIdle > 0 and now - foreignAt >= foreignEvery then
    redis.call('HSET', meta, 'foreignAt', now)
    for _, entry in ipairs(redis.call('XPENDING', stream, group, 'IDLE', foreignIdle, '-', '+', 1000)) do
      local id, consumer = entry[1], entry[2]
      if consumer ~= parked and not redis.call('ZSCORE', members, consumer) then
        local found = redis.call('XRANGE', stream, id, id)[1]
        claim(parked, {id})
        if found and admit(id, field(found[2], 'key')) then give(id) end
      end
    end
  end
  -- What is removed is what every group has settled, whoever's it is.
  local function before(one, other) return one[1] < other[1] or (one[1] == other[1] and one[2] < other[2]) end
  local function parse(id)
    local ms, seq = string.match(id, '^(%d+)%-(%d+)$')
    return {tonumber(ms), tonumber(seq)}
  end
  local low = keepSettled > 0 and {now - keepSettled, 0} or {now + 1, 0}
  for _, one in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    local info = pairsOf(one)
    local first
    if info.pending > 0 then
      first = parse(redis.call('XPENDING', stream, info.name)[2])
    else
      first = parse(info['last-delivered-id'])
      first = first[2] >= 9007199254740992 and {first[1] + 1, 0} or {first[1], first[2] + 1}
    end
    if before(first, low) then low = first end
  end
  if maxAge > 0 and before(low, {now - maxAge, 0}) then low = {now - maxAge, 0} end
  redis.call('XTRIM', stream, 'MINID', string.format('%.0f-%.0f', low[1], low[2]))
  for _, ended in ipairs(redis.call('ZRANGEBYSCORE', broadcasts, '-inf', now)) do
    redis.pcall('XGROUP', 'DESTROY', stream, ended)
    redis.call('ZREM', broadcasts, ended)
    local function part(name) return prefix .. ':' .. name .. ':' .. ended end
    forget(part('heads'), prefix .. ':lane:' .. #ended .. ':' .. ended .. ':', part('members'), part('back'), part('again'), part('meta'), part('wake'))
  end
  finish()
  return dead
`);

/** Counts. Answers the events that the group has not settled, and those that were removed before it had. */
export const lagScript = new Script(`${prelude}${countLua}
  local unsettled, added = count()
  if not unsettled then return {0, 0} end
  local known = redis.call('HMGET', meta, 'base', 'settled')
  if not added or not known[1] then return {unsettled, 0} end
  return {unsettled, math.max(added - tonumber(known[1]) - tonumber(known[2] or 0) - unsettled, 0)}
`);
