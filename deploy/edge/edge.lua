-- What the transcoder does not do: refuses what no route means, and makes answers what the contract says.
-- It never puts a byte of the client's into an answer: paths are checked first, and texts are the service's own JSON.

-- PROBLEMS, title and detail by status, is put before this by render.py.
-- Where HTTP knows better than the fixed mapping from gRPC codes.
local STATUS_OF_REASON = { VALIDATION_FAILED = "422", EMAIL_ALREADY_REGISTERED = "400" }
local SECURITY = {
  ["x-content-type-options"] = "nosniff",
  ["cache-control"] = "no-store",
  ["referrer-policy"] = "no-referrer",
  ["content-security-policy"] = "default-src 'none'; frame-ancestors 'none'",
}
local DEFAULT_TIMEOUT = "10S"

local function refuse(handle, status, headers)
  headers = headers or {}
  headers[":status"] = status
  handle:respond(headers, "")  -- the local reply mappers write the problem
end

local function is_grpc(headers)
  return string.sub(headers:get("content-type") or "", 1, 16) == "application/grpc"
end

local function set_request_id(headers)
  local given = headers:get("x-request-id") or ""
  if #given == 0 or #given > 128 or not string.find(given, "^[%w%._:/+=-]+$") then
    local digits = {}
    for position = 1, 32 do digits[position] = string.format("%x", math.random(0, 15)) end
    headers:replace("x-request-id", table.concat(digits))
  end
end

local function has_body(headers)
  return headers:get("transfer-encoding") ~= nil or (tonumber(headers:get("content-length") or "0") or 1) > 0
end

function envoy_on_request(handle)
  local headers = handle:headers()
  set_request_id(headers)
  if not string.find(headers:get("grpc-timeout") or "", "^%d%d?%d?%d?%d?%d?%d?%d?[HMSmun]$") then
    headers:replace("grpc-timeout", DEFAULT_TIMEOUT)
  end
  local route = handle:metadata()
  local allow = route:get("allow")
  if is_grpc(headers) then
    if allow == nil then return end
    -- Not everything that begins like gRPC's type is gRPC to the transcoder, and no REST path takes any of it.
    headers:remove("content-type")
    return refuse(handle, "415")
  end

  local target = headers:get(":path") or ""
  local path, query = string.match(target, "^([^?]*)(.*)$")
  -- No path of the contract needs an encoded byte, a dot segment or an empty one.
  if not string.find(path, "^/[%w/_:.-]*$") or string.find(path, "//", 1, true) or string.find(path, "/.", 1, true) then
    return refuse(handle, "404")
  end
  if allow == nil then return end
  -- gRPC would read these as its own, and answer what is wrong with them in texts of its own.
  local foreign = {}
  for name, _ in pairs(headers) do
    if string.find(name, "%-bin$") or (string.find(name, "^grpc%-") and name ~= "grpc-timeout") then
      table.insert(foreign, name)
    end
  end
  for _, name in ipairs(foreign) do headers:remove(name) end
  if not string.find(", " .. allow .. ",", ", " .. headers:get(":method") .. ",", 1, true) then
    return refuse(handle, "405", { ["allow"] = allow })
  end
  if query ~= "" and not route:get("query") then return refuse(handle, "400") end
  local kind = string.lower(string.match(headers:get("content-type") or "", "^%s*([^;]-)%s*;") or headers:get("content-type") or "")
  if has_body(headers) and kind ~= "application/json" then
    return refuse(handle, "415")
  end
  handle:streamInfo():dynamicMetadata():set("edge", "path", path)
  handle:streamInfo():dynamicMetadata():set("edge", "success", route:get("success") or "200")
end

-- Reads the JSON string that starts at the quote at `from`; returns it as it stands, quotes and all.
local function literal(text, from)
  local position = from + 1
  while true do
    local found = string.find(text, '["\\]', position)
    if found == nil then return nil end
    if string.sub(text, found, found) == '"' then return string.sub(text, from, found), found end
    position = found + 2
  end
end

-- Finds `"key":` from a position on, and reads the string after it.
local function string_of(text, key, from)
  local _, before = string.find(text, '"' .. key .. '":"', from, true)
  if before == nil then return nil end
  return literal(text, before)
end

local function violations(text)
  local found = {}
  local _, position = string.find(text, '"fieldViolations":[', 1, true)
  while position do
    local field, after = string_of(text, "field", position)
    if field == nil then break end
    local description, last = string_of(text, "description", after)
    if description == nil then break end
    table.insert(found, '{"field":' .. field .. ',"description":' .. description .. "}")
    position = last
  end
  return found
end

-- Makes a problem (RFC 9457) of the JSON of a google.rpc.Status, whose fields come in the order code, message, details.
-- What is no such JSON is a text of the transcoder's, which quotes the client: the status' own text takes its place.
local function problem(status, path, text)
  local detail, last
  if string.find(text, '^{"code":%d') then detail, last = string_of(text, "message", 1) end
  local details = last and string.sub(text, last + 1) or ""
  local reason = string.match(details, '"reason":"([A-Z_]+)"')
  status = STATUS_OF_REASON[reason or ""] or status
  local known = PROBLEMS[status] or PROBLEMS["500"]
  local parts = {
    '"type":"about:blank"', '"title":' .. known.title, '"status":' .. status,
    '"detail":' .. (detail or known.detail), '"instance":"' .. path .. '"',
  }
  if reason then table.insert(parts, '"code":"' .. reason .. '"') end
  local errors = violations(details)
  if #errors > 0 then table.insert(parts, '"errors":[' .. table.concat(errors, ",") .. "]") end
  return status, "{" .. table.concat(parts, ",") .. "}", string.match(details, '"retryDelay":"(%d+)s"')
end

function envoy_on_response(handle)
  local edge = handle:streamInfo():dynamicMetadata():get("edge")
  local headers = handle:headers()
  for name, value in pairs(SECURITY) do headers:replace(name, value) end
  local status = headers:get(":status")
  if headers:get("content-type") == "application/problem+json" then  -- a local reply
    if status == "503" then headers:replace("retry-after", "1") end
    return
  end
  if edge == nil or edge["path"] == nil then return end
  if status == "200" then
    headers:replace(":status", edge["success"])
  else
    local text = ""
    local body = handle:body(true)
    if body ~= nil then text = body:getBytes(0, body:length()) end
    local written, retry
    status, written, retry = problem(status, edge["path"], text)
    headers = handle:headers()  -- body() may have yielded
    body:setBytes(written)
    headers:replace(":status", status)
    headers:replace("content-type", "application/problem+json")
    headers:replace("content-length", tostring(#written))
    if status == "401" then headers:replace("www-authenticate", "Bearer") end
    if retry or status == "503" then headers:replace("retry-after", retry or "1") end
  end
  for _, name in ipairs({ "grpc-status", "grpc-message", "grpc-accept-encoding" }) do headers:remove(name) end
end
