#!lua name=experiment
-- What a fleet agrees on, kept by Redis: the counters of all instances, and the state of all experiments.
--
-- Loaded as a library of Functions (Redis 7), or between script_begin.lua and script_end.lua as one script (Redis 6.2).
-- A server neither rolls back a call that fails nor remembers across a failover what it has acknowledged. So each
-- function takes one key, validates everything, then reads, then writes; each may be repeated, and what a failover has
-- forgotten comes back with the next flush. Errors begin with "EXPERIMENT " and name function, place, value and what
-- was expected; errors of the server (WRONGTYPE, OOM, READONLY) pass as they are.
--
-- NS:c:<experiment>:<generation>, a hash of counters, which expires when it is of a former generation
--   m                       format of the hash: "1"
--   u                       update mark: how many merges changed something
--   e                       epochs that have totals, separated by spaces, in the order of their first flush
--   t:<epoch>               "<update mark>;<v0>,<v1>,...": totals of the fleet, and the mark of their last change
--   s:<epoch>:<instance>    "<minutes>;<v0>,<v1>,...": newest vector of that instance, and when it was last seen
--   a:<epoch>               "open;<text>" or "sealed;<text>", as the allocator wrote it
--   l:<epoch>               flushes that came after it was sealed
--   x:<instance>            "<minutes>": tombstone, since when; what it sends is refused
-- NS:ctl, a hash of definitions and runtime state
--   v                       change id of the newest change: number * 2^20 + 20 random bits
--   n:<number>              "<change id> <field> <field> ...": what that change wrote; of the last 1000 changes
--   d doc doc_done kills x:<experiment>    what changes write
--   lease lease_until       "<instance> <counter>" and unix ms; they do not count as a change
-- NS:edges, a hash of reports: <instance> -> "<unix s>;<JSON>"

local VERSION = 2
local FORMAT = '1'
local MAX = 9007199254740991           -- 2^53 - 1: up to here a Lua number is exact
local MERGE_EPOCHS = 16                -- of one merge: a call must not keep others waiting
local ENTRIES = 512                    -- of a vector; 20 arms and a baseline with 7 value goals have 462
local VECTOR_BYTES = ENTRIES * 17      -- 16 digits and a comma each
local SEEN_MINUTES = 60                -- how old a last-seen gets before it is written again
local IDLE_MINUTES = 2 * SEEN_MINUTES  -- a shard seen later than that may be of an instance that lives
local TOMBSTONE_MINUTES = 30 * 1440    -- how long an instance may be away and still be refused
local RETIRED_SECONDS = 30 * 86400     -- how long counters of a former generation are kept
local TEXT_BYTES = 65536               -- of what the allocator says about an epoch, and of a report
local NAMES = 1000                     -- epochs or fields of one call
local WRITE_FIELDS = 10000             -- of one change
local CHANGES_KEPT = 1000
local CHANGE_STEP = 1048576            -- 2^20
local LEASE_MS = 3600000               -- the longest lease; one that ends later was written by another clock
local REPORT_SECONDS = 3600
local REPORTS_LOOKED_AT = 50           -- by every 100th report
local REPORTS_DROPPED = 10             -- of those, at most
local CHUNK = 1000                     -- arguments at a time: Lua cannot unpack more than some thousand; even

-- A library that is being loaded sees nothing but redis.register_function, so these are set by the first call.
local byte, concat, decode, find, floor, format, gmatch, match, max, min, sub
local integer  -- format of the numbers of a vector
local function name_functions()
  byte, find, format, gmatch = string.byte, string.find, string.format, string.gmatch
  match, sub, concat, decode = string.match, string.sub, table.concat, cjson.decode
  floor, max, min = math.floor, math.max, math.min
  integer = format('%d', MAX) == format('%.0f', MAX) and '%d' or '%.0f'  -- where a C long is too short for %d
end

-- --- arguments ----------------------------------------------------------------------------------------------------

local function refuse(name, place, value, expected)
  value = tostring(value)
  if #value > 60 then value = sub(value, 1, 60) .. '...' end
  value = value:gsub('[^\032-\126]', '?')
  return redis.error_reply(format("EXPERIMENT %s: %s: '%s', expected %s", name, place, value, expected))
end

-- A number in the one way that we write it: another spelling would be another field.
local function is_decimal(text)
  if #text > 16 or not find(text, '^[0-9]+$') or (byte(text) == 48 and text ~= '0') then return false end
  return #text < 16 or tonumber(text) <= MAX
end

local function is_instance(text)
  return #text <= 64 and find(text, '^[A-Za-z0-9_-]+$') ~= nil
end

local function bad_instance(name, text)
  if not text or not is_instance(text) then
    return refuse(name, 'instance', text, '1 to 64 of A-Z a-z 0-9 _ -')
  end
end

local function bad_number(name, place, text, least, most)
  if not text or not is_decimal(text) or tonumber(text) < least or tonumber(text) > most then
    return refuse(name, place, text, format('%.0f to %.0f', least, most))
  end
end

-- `seen`: the epochs before it. A second vector for one epoch would be compared with what the first replaces.
local function bad_epoch(name, epoch, seen)
  if not is_decimal(epoch) then return refuse(name, 'epoch', epoch, format('0 to %.0f', MAX)) end
  if seen[epoch] then return refuse(name, 'epoch', epoch, 'each epoch once') end
  seen[epoch] = true
end

-- The last arguments, from `first` on, are pairs.
local function bad_pairs(name, argv, first, most)
  local count = (#argv - first + 1) / 2
  if count < 1 or count > most or count % 1 ~= 0 then
    return refuse(name, 'number of arguments', #argv, format('%d and 1 to %d pairs', first - 1, most))
  end
end

local function bad_count(name, argv, least, most)
  if #argv < least or #argv > most then
    return refuse(name, 'number of arguments', #argv, least == most and least or least .. ' to ' .. most)
  end
end

local function bad_text(name, text)
  if #text > TEXT_BYTES then return refuse(name, 'text', text, format('at most %d bytes', TEXT_BYTES)) end
end

-- --- the server ---------------------------------------------------------------------------------------------------

-- HMGET of any number of fields: values, false where there is none; or nil and the server's error.
local function read(key, fields)
  local values = {}
  for first = 1, #fields, CHUNK do
    local some = redis.pcall('HMGET', key, unpack(fields, first, min(first + CHUNK - 1, #fields)))
    if some.err then return nil, some end
    if #fields <= CHUNK then return some end
    for i = 1, #some do values[first + i - 1] = some[i] end
  end
  return values
end

-- HSET or HDEL of any number of arguments. Returns the server's error: that of the first command, for a server that
-- has let a call write lets it write on.
local function write(command, key, arguments)
  for first = 1, #arguments, CHUNK do
    local done = redis.pcall(command, key, unpack(arguments, first, min(first + CHUNK - 1, #arguments)))
    if type(done) == 'table' then return done end
  end
end

-- As read(), of a hash of counters; `fields` begin with "m".
local function read_counters(name, key, fields)
  local values, problem = read(key, fields)
  if values and values[1] and values[1] ~= FORMAT then
    return nil, refuse(name, 'm of ' .. key, values[1], 'format ' .. FORMAT)
  end
  return values, problem
end

local function unix_minutes()
  return floor(redis.call('TIME')[1] / 60)
end

local function append(list, field, value)
  local n = #list
  list[n + 1], list[n + 2] = field, value
end

local function words(text)
  local list = {}
  for word in gmatch(text, '[^ ]+') do list[#list + 1] = word end
  return list
end

local function is_sealed(state)
  return state and sub(state, 1, 7) == 'sealed;'
end

-- --- merge --------------------------------------------------------------------------------------------------------

-- The numbers of a vector, or nil. The pattern lets only digits and commas through, and the decoder, which is C and
-- takes half the time of a loop, only what has digits between commas.
local function numbers(vector)
  if #vector > VECTOR_BYTES or not find(vector, '^[0-9,]+$') then return nil end
  local whole, values = pcall(decode, '[' .. vector .. ']')
  if whole and #values <= ENTRIES then return values end
end

-- What follows the number in "<number>;<vector>"; nil where there is none.
local function vector_of(stored)
  local at = find(stored, ';', 1, true)
  return at and sub(stored, at + 1)
end

local function has_leading_zero(vector)
  return find(vector, '^0[0-9]') or (find(vector, ',0', 1, true) and find(vector, ',0[0-9]'))
end

-- One call for all is twice as fast as table.concat, which writes a number as a fraction, and 14 digits of it only.
local function joined(values)
  return format((integer .. ','):rep(#values - 1) .. integer, unpack(values))
end

-- The numbers of a vector that was sent; or nil and what refuse() needs.
local function sent(vector)
  local values = numbers(vector)
  if values and not has_leading_zero(vector) then return values end
  return nil, 'vector', vector, format('1 to %d decimals joined by commas', ENTRIES)
end

-- Adds what is new in `new` over `old` to `sums`, all numbers. Returns whether anything is, and whether `new` lacks
-- something of `old`; or nil and what refuse() needs.
local function add_growth(new, old, sums)
  local grown, behind = #new > #old, #new < #old
  for i = 1, #new do
    local value, before, sum = new[i], old[i] or 0, sums[i] or 0
    if value > before then
      local more = value - before
      if value > MAX then return nil, 'entry ' .. i, format('%.0f', value), format('at most %.0f', MAX) end
      if sum + more > MAX then
        return nil, 'total of entry ' .. i, format('%.0f', sum), format('at most %.0f with %.0f more', MAX, more)
      end
      sums[i], grown = sum + more, true
    else
      behind = behind or value < before
      sums[i] = sum
    end
  end
  return grown, behind
end

-- Takes `vector` in where `shard` and `total` are stored. Returns what to store: vector and totals, or nothing when
-- there is nothing new; or false and what refuse() needs.
local function merged(vector, shard, total)
  local new, place, value, expected = sent(vector)
  if not new then return false, place, value, expected end
  local old, sums = {}, {}
  if shard then old = numbers(vector_of(shard) or '') end
  if not old then return false, 'stored vector', shard, 'minutes;vector' end
  if total then sums = numbers(vector_of(total) or '') end
  if not sums then return false, 'stored totals', total, 'mark;vector' end
  local grown, behind
  grown, behind, value, expected = add_growth(new, old, sums)
  if grown == nil then return false, behind, value, expected end
  if not grown then return nil end
  if not behind then return vector, joined(sums) end
  for i = 1, #old do new[i] = max(new[i] or 0, old[i]) end
  return joined(new), joined(sums)
end

-- One epoch of a merge. Returns its status, and the vector and the totals to store; or nil and what refuse() needs.
local function merge_epoch(vector, shard, total, sealed, now)
  local length = #vector
  local same = shard and sub(shard, -length) == vector and byte(shard, -length - 1) == 59  -- ";"
  if sealed then
    local kept, place, value, expected = merged(vector)
    if kept == false then return nil, place, value, expected end
    return -1
  end
  if not same then
    local kept, sums, value, expected = merged(vector, shard, total)
    if kept then return 1, kept, sums end
    if kept == false then return nil, sums, value, expected end
  end
  -- Nothing new but that the instance lives. A last-seen ahead of the clock is of a server whose clock was wrong.
  local age = now - (tonumber(match(shard, '^[0-9]+')) or 0)
  return 0, (age > SEEN_MINUTES or age < -SEEN_MINUTES) and vector_of(shard) or nil
end

-- What is to be read for a merge: three fields for the whole call, then three for each epoch.
local function merge_fields(name, argv)
  local bad = bad_pairs(name, argv, 2, MERGE_EPOCHS) or bad_instance(name, argv[1])
  if bad then return nil, bad end
  local instance, seen = argv[1], {}
  local fields, n = {'m', 'u', 'x:' .. instance}, 3
  for i = 2, #argv, 2 do
    local epoch = argv[i]
    bad = bad_epoch(name, epoch, seen)
    if bad then return nil, bad end
    fields[n + 1], fields[n + 2], fields[n + 3] = 's:' .. epoch .. ':' .. instance, 't:' .. epoch, 'a:' .. epoch
    n = n + 3
  end
  return fields
end

-- Adds what is seldom to be written: epochs that have their first totals, and flushes that came too late.
local function merge_marks(key, writes, fresh, late)
  local fields = {'e'}
  for i = 1, #late do fields[i + 1] = 'l:' .. late[i] end
  local stored, problem = read(key, fields)
  if problem then return problem end
  local epochs = stored[1] or ''
  for i = 1, #fresh do
    if not find(' ' .. epochs .. ' ', ' ' .. fresh[i] .. ' ', 1, true) then
      epochs = epochs == '' and fresh[i] or epochs .. ' ' .. fresh[i]
    end
  end
  if #fresh > 0 then append(writes, 'e', epochs) end
  for i = 2, #fields do append(writes, fields[i], format('%.0f', (tonumber(stored[i] or 0) or 0) + 1)) end
end

-- ARGV: instance, then 1 to 16 times epoch, vector. Returns {u, created, status, ...}: created 1 where these are the
-- first totals of the key; for each epoch 1: changed, 0: nothing new, -1: sealed.
-- What is missing at the end of a vector is zero, so arms may be appended. Of each entry the largest counts that the
-- instance ever sent, so a flush may be lost, repeated, late or forgotten by a failover: the next one makes up for it.
local function merge(name, key, argv)
  local fields, bad = merge_fields(name, argv)
  if bad then return bad end
  local stored, problem = read_counters(name, key, fields)
  if problem then return problem end
  if stored[3] then return refuse('FENCED ' .. name, 'instance', argv[1], 'a new one, for this was folded away') end
  local u, now = tonumber(stored[2] or 0), unix_minutes()
  if not u then return refuse(name, 'u of ' .. key, stored[2], 'a decimal') end
  local answer, writes, fresh, late, changed = {u, 0}, {}, {}, {}, false
  for i = 2, #argv, 2 do
    local at = i * 1.5 + 1
    local total = stored[at + 1]
    local status, vector, sums, expected =
      merge_epoch(argv[i + 1], stored[at], total, is_sealed(stored[at + 2]), now)
    if not status then return refuse(name, format('epoch %s: %s', argv[i], vector), sums, expected) end
    answer[i / 2 + 2] = status
    if status < 0 then late[#late + 1] = argv[i] end
    if vector then append(writes, fields[at], now .. ';' .. vector) end
    if sums then
      append(writes, fields[at + 1], format('%.0f;%s', u + 1, sums))
      changed = true
      if not total then fresh[#fresh + 1] = argv[i] end
    end
  end
  if changed then
    answer[1], answer[2] = u + 1, stored[2] and 0 or 1
    append(writes, 'u', format('%.0f', u + 1))
    if not stored[1] then append(writes, 'm', FORMAT) end
  end
  problem = (#fresh > 0 or #late > 0) and merge_marks(key, writes, fresh, late) or write('HSET', key, writes)
  return problem or answer
end

-- --- what becomes of counters -------------------------------------------------------------------------------------

-- ARGV: update mark, instance or "", then up to 1000 epochs, none for all. Returns {u, epoch, totals, vector of the
-- instance or "", ...} of the epochs that changed since that mark; {0} where nothing was ever merged. A mark that is
-- ahead of ours is of before a failover, so it says nothing and all is returned. Of a sealed epoch the totals are all
-- that counts: when its vectors were swept, that of the instance is "" and yet in the totals.
local function totals(name, key, argv)
  local bad = bad_count(name, argv, 2, NAMES + 2) or bad_number(name, 'update mark', argv[1], 0, MAX)
              or argv[2] ~= '' and bad_instance(name, argv[2])
  local epochs, seen = {}, {}
  for i = 3, bad and 0 or #argv do
    bad = bad or bad_epoch(name, argv[i], seen)
    epochs[i - 2] = argv[i]
  end
  if bad then return bad end
  local since, instance = tonumber(argv[1]), argv[2]
  local stored, problem = read_counters(name, key, {'m', 'u'})
  if problem then return problem end
  local u = tonumber(stored[2] or 0)
  if not u then return refuse(name, 'u of ' .. key, stored[2], 'a decimal') end
  if u == since then return {u} end
  if u < since then since = 0 end
  if #argv == 2 then epochs = words(read(key, {'e'})[1] or '') end
  local fields = {}
  for i = 1, #epochs do append(fields, 't:' .. epochs[i], 's:' .. epochs[i] .. ':' .. instance) end
  stored = read(key, fields)
  local answer = {u}
  for i = 1, #epochs do
    local total, shard = stored[2 * i - 1], stored[2 * i]
    local mark, vector = match(total or '0;', '^([0-9]+);([0-9,]*)$')
    if not mark then return refuse(name, 'epoch ' .. epochs[i] .. ': stored totals', total, 'mark;vector') end
    if tonumber(mark) > since then
      append(answer, epochs[i], vector)
      answer[#answer + 1] = shard and match(shard, ';([0-9,]*)$') or ''
    end
  end
  return answer
end

-- Writes the state of epochs, but of those that are sealed. Returns how many were not. The generation is the current
-- one, be it that a failover has made it so again: what was to go stays.
local function mark_epochs(name, key, argv, state)
  local bad, fields, seen = bad_pairs(name, argv, 1, NAMES), {'m'}, {}
  for i = 1, bad and 0 or #argv, 2 do
    bad = bad or bad_epoch(name, argv[i], seen) or bad_text(name, argv[i + 1])
    fields[#fields + 1] = 'a:' .. argv[i]
  end
  if bad then return bad end
  local stored, problem = read_counters(name, key, fields)
  if problem then return problem end
  local writes, count = {}, 0
  for i = 2, #fields do
    if not is_sealed(stored[i]) then
      count = count + 1
      local text = state .. ';' .. argv[2 * i - 2]
      if stored[i] ~= text then append(writes, fields[i], text) end
    end
  end
  if #writes > 0 and not stored[1] then append(writes, 'm', FORMAT) end
  problem = write('HSET', key, writes)
  local stays = problem or redis.pcall('PERSIST', key)
  return type(stays) == 'table' and stays or count
end

-- ARGV: 1 to 1000 times epoch, text. Returns how many are sealed now that were not: their totals are final.
local function seal(name, key, argv)
  return mark_epochs(name, key, argv, 'sealed')
end

-- ARGV: as seal. Returns how many of them are open; those that are sealed stay as they are.
local function open(name, key, argv)
  return mark_epochs(name, key, argv, 'open')
end

-- No ARGV. The generation is a former one, and in a month its counters go, whatever still comes in. Returns 1 when that
-- month begins, 0 when it has begun or there are none.
local function retire(name, key, argv)
  local bad = bad_count(name, argv, 0, 0)
  if bad then return bad end
  local _, problem = read_counters(name, key, {'m'})
  local left = problem or redis.pcall('TTL', key)
  if type(left) == 'table' then return left end
  return left == -1 and redis.pcall('EXPIRE', key, RETIRED_SECONDS) or 0
end

-- The vectors of `instance` in epochs that are not sealed, all of them idle; or nil, because it was seen since.
local function idle_shards(key, instance, unsealed, is_idle)
  local fields, idle = {}, {}
  for i = 1, #unsealed do fields[i] = 's:' .. unsealed[i] .. ':' .. instance end
  local stored = read(key, fields)
  for i = 1, #fields do
    if stored[i] and not is_idle(stored[i]) then return nil end
    if stored[i] then idle[#idle + 1] = fields[i] end
  end
  return idle
end

local function unsealed_epochs(key)
  local epochs, fields, unsealed = words(read(key, {'e'})[1] or ''), {}, {}
  for i = 1, #epochs do fields[i] = 'a:' .. epochs[i] end
  local states = read(key, fields)
  for i = 1, #epochs do
    if not is_sealed(states[i]) then unsealed[#unsealed + 1] = epochs[i] end
  end
  return unsealed
end

-- What is to be read for a sweep: of each field its value, and the state of its epoch.
local function sweep_fields(name, argv)
  local bad = bad_count(name, argv, 2, NAMES + 1) or bad_number(name, 'idle minutes', argv[1], IDLE_MINUTES, MAX)
  if bad then return nil, bad end
  local fields = {'m'}
  for i = 2, #argv do
    local epoch = match(argv[i], '^s:([0-9]+):[A-Za-z0-9_-]+$')
    if not epoch and not find(argv[i], '^x:[A-Za-z0-9_-]+$') then
      return nil, refuse(name, 'field', argv[i], 's:<epoch>:<instance> or x:<instance>')
    end
    append(fields, argv[i], 'a:' .. (epoch or ''))
  end
  return fields
end

-- ARGV: idle minutes, then 1 to 1000 names of fields as HSCAN finds them, s:<epoch>:<instance> or x:<instance>.
-- Returns how many fields are gone: vectors of sealed epochs; those of instances that were idle for so long in every
-- epoch that is not sealed, for which a tombstone is left, since what they sent is in the totals and would be added
-- again; and tombstones of instances that nobody will hear of any more. Where instances have vectors in many epochs,
-- some are left for another call.
-- To be called when all had time to flush after a failover: it may have forgotten that an instance is back.
local function sweep(name, key, argv)
  local fields, bad = sweep_fields(name, argv)
  if bad then return bad end
  local stored, problem = read_counters(name, key, fields)
  if problem then return problem end
  local now, idle, unsealed = unix_minutes(), tonumber(argv[1]), nil
  local gone, tombstones, seen = {}, {}, {}
  local function is_idle(text) return now - (tonumber(match(text, '^[0-9]+')) or now) >= idle end
  local function look_at(field, value, state)
    local instance = match(field, '[^:]+$')
    if byte(field) == 120 then  -- "x"
      if now - (tonumber(value) or now) >= max(TOMBSTONE_MINUTES, idle) then gone[#gone + 1] = field end
    elseif is_sealed(state) then
      gone[#gone + 1] = field
    elseif is_idle(value) and not seen[instance] and #gone < NAMES then
      seen[instance], unsealed = true, unsealed or unsealed_epochs(key)
      local shards = idle_shards(key, instance, unsealed, is_idle)
      if shards then append(tombstones, 'x:' .. instance, now) end
      for _, shard in ipairs(shards or {}) do gone[#gone + 1] = shard end
    end
  end
  for i = 2, #fields, 2 do
    local field, value = fields[i], stored[i]
    if value and not seen[field] then look_at(field, value, stored[i + 1]) end  -- HSCAN may find one twice
    seen[field] = true
  end
  -- Tombstones first: whatever follows, nobody's vector is gone without one.
  problem = write('HSET', key, tombstones) or write('HDEL', key, gone)
  return problem or #gone
end

-- --- definitions and runtime state --------------------------------------------------------------------------------

local function is_of_change(field)
  return field == 'd' or field == 'doc' or field == 'doc_done' or field == 'kills'
         or (#field <= 100 and find(field, '^x:[\033-\126]+$') ~= nil)
end

local function number_of(id)
  return floor(tonumber(id) / CHANGE_STEP)
end

-- ARGV: the change id that was read before ("0": none yet), 20 random bits, channel of hints, then 1 to 10000 times
-- field, value. Returns {1, new change id}, or {0, change id} where another one stands than was read.
-- Random bits tell two changes apart that have one number, which is what a failover that forgets leads to.
local function change(name, key, argv)
  local bad = bad_pairs(name, argv, 4, WRITE_FIELDS) or bad_number(name, 'expected change id', argv[1], 0, MAX)
              or bad_number(name, 'random bits', argv[2], 0, CHANGE_STEP - 1)
              or (argv[3] == '' or #argv[3] > 256) and refuse(name, 'channel', argv[3], '1 to 256 bytes')
  local names, seen = {}, {}
  for i = 4, bad and 0 or #argv, 2 do
    local field = argv[i]
    bad = bad or not is_of_change(field) and refuse(name, 'field', field, 'd, doc, doc_done, kills or x:<experiment>')
              or seen[field] and refuse(name, 'field', field, 'each field once')
    names[#names + 1], seen[field] = field, true
  end
  if bad then return bad end
  local stored, problem = read(key, {'v'})
  if problem then return problem end
  local before = stored[1] or '0'
  bad = bad_number(name, 'v of ' .. key, before, 0, MAX - CHANGE_STEP)
  if bad then return bad end
  if before ~= argv[1] then return {0, tonumber(before)} end
  local number = number_of(before) + 1
  local id = format('%.0f', number * CHANGE_STEP + tonumber(argv[2]))
  local writes = {'v', id, format('n:%.0f', number), id .. ' ' .. concat(names, ' ')}
  for i = 4, #argv do writes[i + 1] = argv[i] end
  local forgotten = number > CHANGES_KEPT and {format('n:%.0f', number - CHANGES_KEPT)} or {}
  problem = write('HDEL', key, forgotten) or write('HSET', key, writes)
  if problem then return problem end
  -- A hint that cannot be given undoes no change: everybody asks as well.
  redis.pcall('PUBLISH', argv[3], id)
  return {1, tonumber(id)}
end

-- The fields that were written after change `known` and until `newest`; nil when `known` is none of those that led
-- there, or too long ago.
local function fields_since(key, known, newest)
  local from, to = number_of(known), number_of(newest)
  if from >= to or to - from > CHANGES_KEPT then return nil end
  local notes = {}
  for number = from, to do notes[#notes + 1] = format('n:%.0f', number) end
  local stored, problem = read(key, notes)
  if problem or not stored[1] or match(stored[1], '^[0-9]+') ~= known then return nil end
  local fields, seen = {}, {}
  for i = 2, #notes do
    if not stored[i] then return nil end
    for field in gmatch(stored[i], ' ([^ ]+)') do
      if not seen[field] then fields[#fields + 1], seen[field] = field, true end
    end
  end
  return fields
end

-- ARGV: the change id that is known ("0": none). Returns {change id, 0, field, value, ...} of what was written since;
-- or {change id, 1, field, value, ...} of everything, where the known one is not among the changes before this one.
local function changes(name, key, argv)
  local bad = bad_count(name, argv, 1, 1) or bad_number(name, 'known change id', argv[1], 0, MAX)
  if bad then return bad end
  local stored, problem = read(key, {'v'})
  if problem then return problem end
  local newest = stored[1] or '0'
  bad = bad_number(name, 'v of ' .. key, newest, 0, MAX)
  if bad then return bad end
  if newest == argv[1] then return {tonumber(newest), 0} end
  local fields = fields_since(key, argv[1], newest)
  local answer = {tonumber(newest), fields and 0 or 1}
  if fields then
    stored = read(key, fields)
    for i = 1, #fields do
      if stored[i] then append(answer, fields[i], stored[i]) end
    end
    return answer
  end
  local all = redis.pcall('HGETALL', key)
  if all.err then return all end
  for i = 1, #all, 2 do
    if is_of_change(all[i]) then append(answer, all[i], all[i + 1]) end
  end
  return answer
end

-- ARGV: instance, milliseconds. Returns {1, instance, milliseconds} when the lease is its own until then, else
-- {0, holder, remaining milliseconds}. It spares work; what makes changes safe is that they are compared and set.
local function lease(name, key, argv)
  local bad = bad_count(name, argv, 2, 2) or bad_instance(name, argv[1])
              or bad_number(name, 'milliseconds', argv[2], 1, LEASE_MS)
  if bad then return bad end
  local stored, problem = read(key, {'lease', 'lease_until'})
  if problem then return problem end
  local time = redis.call('TIME')
  local now = time[1] * 1000 + floor(time[2] / 1000)
  local holder, renewals = match(stored[1] or '', '^([^ ]+) ([0-9]+)$')
  local left = (tonumber(stored[2] or 0) or 0) - now
  if holder and holder ~= argv[1] and left > 0 and left <= LEASE_MS then return {0, holder, left} end
  local text = format('%s %.0f', argv[1], (renewals or 0) + 1)
  return write('HSET', key, {'lease', text, 'lease_until', format('%.0f', now + argv[2])})
         or {1, argv[1], tonumber(argv[2])}
end

-- ARGV: instance. Returns 1 when the lease was its own, and is free now; else 0. The count of renewals stays, so that
-- no two leases look alike.
local function release(name, key, argv)
  local bad = bad_count(name, argv, 1, 1) or bad_instance(name, argv[1])
  if bad then return bad end
  local stored, problem = read(key, {'lease', 'lease_until'})
  if problem then return problem end
  if match(stored[1] or '', '^[^ ]+') ~= argv[1] or stored[2] == '0' then return 0 end
  return write('HSET', key, {'lease_until', '0'}) or 1
end

-- --- reports ------------------------------------------------------------------------------------------------------

-- A few at random, so that a report costs the same however many there are; what is old is found in the end.
local function drop_reports(key, now)
  local some, old = redis.pcall('HRANDFIELD', key, REPORTS_LOOKED_AT, 'WITHVALUES'), {}
  for i = 1, #some, 2 do
    local written = tonumber(match(some[i + 1], '^([0-9]+);')) or 0
    if now - written > REPORT_SECONDS and #old < REPORTS_DROPPED then old[#old + 1] = some[i] end
  end
  write('HDEL', key, old)
end

-- ARGV: instance, JSON object. Returns 1.
local function report(name, key, argv)
  local bad = bad_count(name, argv, 2, 2) or bad_instance(name, argv[1]) or bad_text(name, argv[2])
              or not find(argv[2], '^{.*}$') and refuse(name, 'text', argv[2], 'a JSON object')
  if bad then return bad end
  local time = redis.call('TIME')
  local problem = write('HSET', key, {argv[1], time[1] .. ';' .. argv[2]})
  if problem then return problem end
  if floor(time[2] / 1000) % 100 == 0 then drop_reports(key, tonumber(time[1])) end
  return 1
end

-- --- the library --------------------------------------------------------------------------------------------------

local function register(name, callback, flags)
  redis.register_function{
    function_name = name,
    flags = flags,
    callback = function(keys, argv)
      if not find then name_functions() end
      if #keys ~= 1 then return refuse(name, 'number of keys', #keys, '1') end
      return callback(name, keys[1], argv)
    end,
  }
end

-- A full store takes what makes room, and kills with the state that they are part of; counters would fill it further.
local EVEN_FULL = {'allow-oom'}
register('experiment_merge', merge, {})
register('experiment_totals', totals, {'no-writes'})
register('experiment_seal', seal, EVEN_FULL)
register('experiment_open', open, EVEN_FULL)
register('experiment_retire', retire, EVEN_FULL)
register('experiment_sweep', sweep, EVEN_FULL)
register('experiment_write', change, EVEN_FULL)
register('experiment_changes', changes, {'no-writes'})
register('experiment_lease', lease, EVEN_FULL)
register('experiment_release', release, EVEN_FULL)
register('experiment_report', report, {})

redis.register_function{
  function_name = 'experiment_version',
  flags = {'no-writes'},
  callback = function() return VERSION end,
}
