local registered = {}
local redis = {
  call = redis.call, pcall = redis.pcall, error_reply = redis.error_reply,
  register_function = function(f) registered[f.function_name] = f.callback end,
}
