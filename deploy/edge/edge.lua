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
-- As HTTP/2 counts them, which the service does too. It takes 64 KiB, and Envoy adds some.
local MAX_METADATA_BYTES, BYTES_BESIDE_NAME_AND_VALUE = 64512, 32
local GRPC_ENCODINGS = { identity = true, gzip = true, deflate = true }

-- The local reply mappers write the problem, but where the request says that it is gRPC: see envoy_on_response.
local function refuse(handle, status, headers)
  headers = headers or {}
  headers[":status"] = status
  handle:streamInfo():dynamicMetadata():set("edge", "refused", status)
  handle:respond(headers, "")
end

local function set_request_id(handle, headers)
  local given = headers:get("x-request-id") or ""
  if #given == 0 or #given > 128 or not string.find(given, "^[%w%._:/+=-]+$") then
    given = headers:get("x-fresh-id")
    headers:replace("x-request-id", given)
  end
  headers:remove("x-fresh-id")
  handle:streamInfo():dynamicMetadata():set("edge", "request_id", given)
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

-- Returns the HTTP status for metadata that gRPC would not take, which it would only call an internal error.
local function misfit_of_metadata(headers)
  local bytes = 0
  for name, value in pairs(headers) do
    bytes = bytes + #name + #value + BYTES_BESIDE_NAME_AND_VALUE
    if string.sub(name, -4) == "-bin" and not string.find(value, "^[%w+/=,]*$") then return "400" end
  end
  if bytes > MAX_METADATA_BYTES then return "431" end
  if not GRPC_ENCODINGS[headers:get("grpc-encoding") or "identity"] then return "501" end
end

local function remove_others(headers, kept)
  local others = {}
  for name, _ in pairs(headers) do
    if not kept[name] and string.sub(name, 1, 1) ~= ":" then table.insert(others, name) end
  end
  for _, name in ipairs(others) do headers:remove(name) end
end

-- Says whether a body of this kind is taken, or for a request without one, what it says of its kind.
local function is_taken(method, kind, encoding, has_body)
  -- A GET may say that it is JSON, and the web client's do; without a body that means nothing.
  if method ~= "POST" and method ~= "PUT" then return true end
  if encoding ~= "" and encoding ~= "identity" then return false end
  return kind == "application/json" or (kind == "" and not has_body)
end

-- Turns a path that is short for another one into that. It needs no body: then the reason is the path itself.
local function expand(handle, body, path, rewrite)
  local headers = handle:headers()
  local text = body:getBytes(0, body:length())
  if string.find(text, "^%s*$") or string.find(text, "^%s*{%s*}%s*$") then
    local written = '{"reason":"POST ' .. path .. '"}'
    body:setBytes(written)
    headers:replace("content-length", tostring(#written))
    headers:replace("content-type", "application/json")
  end
  headers:replace(":path", (string.gsub(path, "/[^/]*$", rewrite)))
end

-- Takes the list out of an answer of which REST gets only that. Page tokens have none of the characters of JSON.
local function unwrap(handle, list)
  local body, headers = handle:body(true), handle:headers()
  local text = body:getBytes(0, body:length())
  local items, token = string.match(text, '^{"' .. list .. '":(%[.*%]),"nextPageToken":"([%w_.-]*)"}$')
  if items == nil then error("not a list: " .. list) end
  body:setBytes(items)
  headers:replace("content-length", tostring(#items))
  if token ~= "" then headers:replace("x-next-page-token", token) end
end

function envoy_on_request(handle)
  local headers, route = handle:headers(), handle:metadata()
  set_request_id(handle, headers)
  set_timeout(headers)
  if route:get("grpc") then
    local misfit = misfit_of_metadata(headers)
    if misfit then return refuse(handle, misfit) end
    -- A call that sends one message begins once it is there, see below.
    if route:get("whole") and handle:body() ~= nil and handle:trailers() then refuse(handle, "400") end
    return
  end

  local is_large = are_too_large(headers)
  local kind, encoding = headers:get("content-type") or "", string.lower(headers:get("content-encoding") or "")
  local is_grpc = kind == "application/grpc" or string.find(kind, "^application/grpc%+")
  kind = string.lower(string.match(kind, "^%s*([^;]-)%s*;") or kind)
  remove_others(headers, FORWARDED)
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
  -- gRPC is a POST. What Envoy itself answers to this would look like gRPC.
  if is_grpc or not is_taken(method, kind, encoding, false) then return refuse(handle, "415") end
  local fixed = route:get("body")
  if fixed then return handle:respond({ [":status"] = "200", ["content-type"] = "application/json" }, fixed) end
  if (tonumber(headers:get("content-length") or "0") or 0) > MAX_BODY_BYTES then return refuse(handle, "413") end

  -- A call begins once its body is there. The transcoder would let one of any size through, if it comes in small enough
  -- pieces, and have a thread of the service wait for it. Here Envoy answers 413 when its buffer is full.
  local rewrite = route:get("rewrite")
  local body = handle:body(rewrite ~= nil)
  if not is_taken(method, kind, encoding, body ~= nil and body:length() > 0) then return refuse(handle, "415") end
  if rewrite then expand(handle, body, path, rewrite) end
  -- The service would read trailers as gRPC's, and the transcoder takes half a JSON for a whole one before them.
  if handle:trailers() then return refuse(handle, "400") end
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

-- JSON of the wrong form, in the words of the transcoder's parser (of what is no JSON it says no name and colon), becomes
-- what the service says of wrong fields. Returns nil for other texts.
local function misfit(text)
  if not string.find(text, "^[%w_.]*: ") then return nil end
  local name = string.match(text, "^([%w_.]+): invalid value")
    or string.match(text, "^: invalid value Starting an object on a scalar field for type ([%w_]+)$")
  local field = name and string.gsub(name, "_(%l)", string.upper) or ""
  local description = name and "has the wrong type" or "has another form than this call takes"
  local message = name and "1 field is invalid: " .. field or "The body"
  return '{"code":3,"message":"' .. message .. " " .. description
    .. '","details":[{"reason":"VALIDATION_FAILED","domain":"killrvideo.user.v1"},{"fieldViolations":[{"field":"' .. field
    .. '","description":"' .. description .. '"}]}]}'
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
  local headers, route = handle:headers(), handle:metadata()
  local edge = handle:streamInfo():dynamicMetadata():get("edge") or {}
  for name, value in pairs(SECURITY) do headers:replace(name, value) end
  -- What Envoy refuses before it comes to this script, gets none: the caller's own has not been looked at.
  if edge["request_id"] then headers:replace("x-request-id", edge["request_id"]) else headers:remove("x-request-id") end
  local status, success = headers:get(":status"), route:get("success")
  if headers:get("content-type") == "application/problem+json" then  -- a local reply
    if status == "503" then headers:replace("retry-after", "1") end
    return
  end
  -- Envoy leaves the kind out where it answers gRPC-Web, for there is no body.
  if headers:get("grpc-status") and not headers:get("content-type") then
    headers:replace("content-type", "application/grpc-web+proto")
  end
  if route:get("grpc") then return end
  if edge["refused"] then  -- of what says that it is gRPC, which Envoy has answered in gRPC's headers
    status = edge["refused"]
  elseif success == nil then
    return
  end
  if status == "200" then
    headers:replace(":status", success)
    if route:get("list") then unwrap(handle, route:get("list")) end
    headers = handle:headers()  -- body() may have yielded
  else
    local body = handle:body(true)
    local text = edge["refused"] and "" or body:getBytes(0, body:length())
    local written, retry
    status, written, retry = problem(status, edge["path"] or "", status == "400" and misfit(text) or text)
    headers = handle:headers()  -- body() may have yielded
    body:setBytes(written)
    headers:replace(":status", status)
    headers:replace("content-type", "application/problem+json")
    headers:replace("content-length", tostring(#written))
    if status == "401" then headers:replace("www-authenticate", "Bearer") end
    if retry or status == "503" then headers:replace("retry-after", retry or "1") end
  end
  for _, name in ipairs({ "grpc-status", "grpc-message", "grpc-accept-encoding" }) do headers:remove(name) end
  local trailers = handle:trailers()
  if trailers then remove_others(trailers, {}) end
end
