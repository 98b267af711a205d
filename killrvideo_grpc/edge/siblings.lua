
-- Requests for siblings and their responses, which pass unchanged. render.py appends this to edge.lua.

local on_own_request, on_own_response = envoy_on_request, envoy_on_response

-- Return whether a sibling may normalize a path differently from Envoy, such as /api/v1/users/%6cogin.
local function is_ambiguous(path)
  if path:find("[^!-~]") or path:find('["\\;]') or path:find("//", 1, true) or path:find("/.", 1, true) then
    return true
  end
  for code in path:gmatch("%%(%x?%x?)") do
    if #code < 2 or string.char(tonumber(code, 16)):find("[%w%c/\\.:;%%-]") then return true end
  end
  return false
end

local function remove_with_prefix(headers, prefix)
  local names = {}
  for name, _ in pairs(headers) do
    if name:sub(1, #prefix) == prefix then table.insert(names, name) end
  end
  for _, name in ipairs(names) do headers:remove(name) end
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local scheme = headers:get(OUTER_SCHEME)
  headers:remove(OUTER_SCHEME)
  if not handle:metadata():get("sibling") then return on_own_request(handle) end
  -- Envoy has replaced it with its own listener's scheme.
  if TRUSTED_HOPS > 0 and (scheme == "http" or scheme == "https") then headers:replace("x-forwarded-proto", scheme) end
  local path = (headers:get(":path") or ""):match("^[^?]*")
  identify(handle, headers)
  headers:remove("grpc-timeout")
  remove_with_prefix(headers, "x-envoy-")
  if headers:get(":method") == "HEAD" then set_metadata(handle, "head", "true") end
  if is_ambiguous(path) then return reject(handle, "404") end
  set_metadata(handle, "path", path)
  if (headers:get("content-type") or ""):find("^application/grpc") then
    headers:remove("content-type")  -- only a POST gets gRPC's errors
    return reject(handle, "404")
  end
  local length = headers:get("content-length")
  if not length then handle:body() end  -- buffered: Envoy answers 413 to more than 64 KiB
  if length and tonumber(length) > MAX_BODY_BYTES then reject(handle, "413") end
end

-- Replace the edge's problem document by that of the check, or by the one for the siblings' body limit.
local function write_own_problem(handle, edge)
  local headers = handle:headers()
  local problem = headers:get("x-problem") or headers:get(":status") == "413" and TOO_LARGE
  if not problem then return end
  headers:remove("x-problem")
  headers:remove("x-problem-status")
  if edge["head"] then return headers:remove("content-length") end
  handle:body(true):setBytes(problem:sub(1, -2) .. ',"instance":"' .. (edge["path"] or "") .. '"}')
end

function envoy_on_response(handle)
  if not handle:metadata():get("sibling") then return on_own_response(handle) end
  local headers = handle:headers()
  if headers:get(FROM_SIBLING) then return headers:remove(FROM_SIBLING) end
  for name, value in pairs(POLICIES) do headers:replace(name, value) end
  on_own_response(handle)
  write_own_problem(handle, handle:streamInfo():dynamicMetadata():get("edge") or {})
end
