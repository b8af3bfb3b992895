
-- As a script: the first argument says which function is called with the others.
local called = registered[ARGV[1]]
if not called then
  return redis.error_reply("EXPERIMENT script: function: '" .. tostring(ARGV[1]) .. "', expected one of the library")
end
table.remove(ARGV, 1)
return called(KEYS, ARGV)
