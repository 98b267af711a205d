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

-- What of a REST caller's headers the service gets to see. It would read others as gRPC's own (grpc-encoding, x-bin), and
-- cookies are none of its business.
local FORWARDED = {
  "authorization", "content-length", "grpc-timeout", "traceparent", "tracestate", "transfer-encoding", "user-agent",
  "x-request-id",
}
for _, name in ipairs(FORWARDED) do FORWARDED[name] = true end
local MAX_HEADER_BYTES, MAX_HEADERS, MAX_BODY_BYTES = 16384, 100, 65536

local function refuse(handle, status, headers)
  headers = headers or {}
  headers[":status"] = status
  handle:respond(headers, "")  -- the local reply mappers write the problem
end

local function set_request_id(headers)
  local given = headers:get("x-request-id") or ""
  if #given == 0 or #given > 128 or not string.find(given, "^[%w%._:/+=-]+$") then
    headers:replace("x-request-id", headers:get("x-fresh-id"))
  end
  headers:remove("x-fresh-id")
end

local function set_timeout(headers)
  if not string.find(headers:get("grpc-timeout") or "", "^%d%d?%d?%d?%d?%d?%d?%d?[HMSmun]$") then
    headers:replace("grpc-timeout", DEFAULT_TIMEOUT)
  end
end

local function are_too_large(headers)
  local bytes, count = 0, 0
  for name, value in pairs(headers) do
    bytes, count = bytes + #name + #value, count + 1
  end
  return bytes > MAX_HEADER_BYTES or count > MAX_HEADERS
end

-- Leaves the service's headers; returns the media type, which gRPC's filters would else judge the request by.
local function strip(headers)
  local kind, foreign = headers:get("content-type") or "", {}
  for name, _ in pairs(headers) do
    if not FORWARDED[name] and string.sub(name, 1, 1) ~= ":" then table.insert(foreign, name) end
  end
  for _, name in ipairs(foreign) do headers:remove(name) end
  return string.lower(string.match(kind, "^%s*([^;]-)%s*;") or kind)
end

local function has_body(handle)
  local body = handle:body()
  return body ~= nil and body:length() > 0
end

function envoy_on_request(handle)
  local headers, route = handle:headers(), handle:metadata()
  set_request_id(headers)
  set_timeout(headers)
  if route:get("grpc") then return end

  local is_large = are_too_large(headers)
  local kind = strip(headers)
  local method = headers:get(":method")
  local path, query = string.match(headers:get(":path") or "", "^([^?]*)(.*)$")
  if is_large then return refuse(handle, "431") end
  -- No path of the contract needs an encoded byte, a dot segment or an empty one.
  if not string.find(path, "^/[%w/_:.-]*$") or string.find(path, "//", 1, true) or string.find(path, "/.", 1, true) then
    return refuse(handle, "404")
  end
  handle:streamInfo():dynamicMetadata():set("edge", "path", path)
  local allow = route:get("allow")
  if allow == nil then return refuse(handle, "404") end
  if not string.find(", " .. allow .. ",", ", " .. method .. ",", 1, true) then
    return refuse(handle, "405", { ["allow"] = allow })
  end
  if query ~= "" and not route:get("query") then return refuse(handle, "400") end
  local fixed = route:get("body")
  if fixed then return handle:respond({ [":status"] = "200", ["content-type"] = "application/json" }, fixed) end
  -- One that says no length, or a wrong one, the buffer filter refuses once it is too large.
  if (tonumber(headers:get("content-length") or "0") or 0) > MAX_BODY_BYTES then return refuse(handle, "413") end
  -- A GET may say that it is JSON, and the web client's do; without a body that means nothing.
  if (method == "POST" or method == "PUT") and kind ~= "application/json" and (kind ~= "" or has_body(handle)) then
    return refuse(handle, "415")
  end
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
-- A text without a reason of the contract is not the service's own, and may quote the client: the status' text replaces it.
local function problem(status, path, text)
  local message, last
  if string.find(text, '^{"code":%d') then message, last = string_of(text, "message", 1) end
  local details = last and string.sub(text, last + 1) or ""
  local reason = string.match(details, '"reason":"([A-Z_]+)","domain":"killrvideo%.user%.v1"')
  status = STATUS_OF_REASON[reason or ""] or status
  local known = PROBLEMS[status] or PROBLEMS["500"]
  local parts = {
    '"type":"about:blank"', '"title":' .. known.title, '"status":' .. status,
    '"detail":' .. (reason and message or known.detail), '"instance":"' .. path .. '"',
  }
  if reason then table.insert(parts, '"code":"' .. reason .. '"') end
  local errors = violations(details)
  if #errors > 0 then table.insert(parts, '"errors":[' .. table.concat(errors, ",") .. "]") end
  return status, "{" .. table.concat(parts, ",") .. "}", string.match(details, '"retryDelay":"(%d+)s"')
end

function envoy_on_response(handle)
  local headers = handle:headers()
  for name, value in pairs(SECURITY) do headers:replace(name, value) end
  local status = headers:get(":status")
  if headers:get("content-type") == "application/problem+json" then  -- a local reply
    if status == "503" then headers:replace("retry-after", "1") end
    return
  end
  local success = handle:metadata():get("success")
  if success == nil then return end
  if status == "200" then
    headers:replace(":status", success)
  else
    local text = ""
    local body = handle:body(true)
    if body ~= nil then text = body:getBytes(0, body:length()) end
    local written, retry
    status, written, retry = problem(status, handle:streamInfo():dynamicMetadata():get("edge")["path"], text)
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
