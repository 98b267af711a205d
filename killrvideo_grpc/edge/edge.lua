-- Runs in Envoy, in front of the gRPC-JSON transcoder. Rejects requests outside the contract, and turns errors into
-- problem documents (RFC 9457). render.py prepends the constants in capitals that aren't defined here.

local DEFAULT_TIMEOUT = "10S"
-- The request headers that REST forwards. The service would interpret others, such as grpc-encoding.
local FORWARDED = {
  ["authorization"] = true, ["content-length"] = true, ["grpc-timeout"] = true, ["traceparent"] = true,
  ["tracestate"] = true, ["transfer-encoding"] = true, ["user-agent"] = true, ["x-request-id"] = true,
}
-- The service accepts 64 KiB, of which MAX_GRPC_BYTES leaves room for Envoy's headers.
local MAX_REST_BYTES, MAX_REST_HEADERS, MAX_GRPC_BYTES = 16384, 100, 64512
local GRPC_ENCODINGS = { identity = true, gzip = true, deflate = true }
-- The transcoder's error texts for JSON that doesn't fit the message, and the problem documents to send instead. The
-- capture is the field's name, or a position where the problem names no field.
local TYPE_ERRORS = {
  { "^([%w_.]+)%[?%d*%]?: invalid value", WRONG_TYPE },  -- without the list index, which may be wrong
  { "^: invalid value Starting an object on a scalar field for type ([%w_]+)$", WRONG_TYPE },
  { '^The binding value "[^"]*" of the field ([%w_.]+) is conflicting with', IN_PATH },
  { "^[%w_.]*(): ", WRONG_FORM },
}

local function set_metadata(handle, key, value)
  handle:streamInfo():dynamicMetadata():set("edge", key, value)
end

-- Envoy writes the problem document, or a gRPC status to a gRPC content type (local_replies.py).
local function reject(handle, status, headers)
  headers = headers or {}
  headers[":status"] = status
  set_metadata(handle, "rejected", status)
  handle:respond(headers, "")
end

-- Keep the caller's request id if it is short and plain; otherwise set a new one.
local function set_request_id(handle, headers)
  local id = headers:get("x-request-id") or ""
  if #id > 64 or not id:find("^[%w%._:/+=-]+$") then id = headers:get("x-fresh-id") end
  headers:replace("x-request-id", id)
  headers:remove("x-fresh-id")
  set_metadata(handle, "request_id", id)
end

-- Return the address that the outermost trusted proxy appended to x-forwarded-for, as it wrote it, or "unknown".
local function forwarded_address(headers)
  local entries = {}
  for entry in ((headers:get("x-forwarded-for") or "") .. ","):gmatch("([^,]*),") do table.insert(entries, entry) end
  return (entries[#entries + 1 - TRUSTED_HOPS] or ""):match("^%s*([ -~]*[!-~])%s*$") or "unknown"
end

-- Set what the log and the service know a request by: its id, and its client's address behind proxies.
local function identify(handle, headers)
  set_request_id(handle, headers)
  if TRUSTED_HOPS > 0 then set_metadata(handle, "client_address", forwarded_address(headers)) end
end

-- Return the size of the headers in bytes, as HTTP/2 counts it, and their number.
local function header_size(headers)
  local bytes, count = 0, 0
  for name, value in pairs(headers) do bytes, count = bytes + #name + #value + 32, count + 1 end
  return bytes, count
end

local function remove_all_but(headers, kept)
  local others = {}
  for name, _ in pairs(headers) do
    if not kept[name] and name:sub(1, 1) ~= ":" then table.insert(others, name) end
  end
  for _, name in ipairs(others) do headers:remove(name) end
end

-- Return the HTTP status that rejects a gRPC call which grpcio would answer with INTERNAL or at random, or nil.
local function grpc_rejection(headers)
  for name, value in pairs(headers) do
    if name:sub(-4) == "-bin" and not value:find("^[%w+/=,]*$") then return "400" end
  end
  if header_size(headers) > MAX_GRPC_BYTES then return "431" end
  if not GRPC_ENCODINGS[headers:get("grpc-encoding") or "identity"] then return "501" end
end

-- Replace a shorthand path with the full one. Without a body, the path becomes the reason in the audit trail.
local function expand_shorthand(handle, body, path, rewrite)
  local headers = handle:headers()
  local text = body:getBytes(0, body:length())
  if text:find("^%s*$") or text:find("^%s*{%s*}%s*$") then
    body:setBytes('{"reason":"POST ' .. path .. '"}')
  end
  headers:replace(":path", (path:gsub("/[^/]*$", rewrite)))
end

local function string_end(text, start)
  local quote, position = text:sub(start, start), start + 1
  while true do
    position = text:find("[\\" .. quote .. "]", position)
    if not position or text:sub(position, position) == quote then return position end
    position = position + 2
  end
end

-- Return the first character of the JSON token at this position, where the token ends, and the string or word in it.
local function token_at(text, start)
  local first = text:sub(start, start)
  if first ~= '"' and first ~= "'" then
    local word = text:match("^[%w_$]+", start)
    return first, start + #(word or first) - 1, word
  end
  local stop = string_end(text, start)
  local content = text:sub(start + 1, (stop or start) - 1)
  content = content:gsub("\\u00(%x%x)", function(code) return string.char(tonumber(code, 16)) end)
  return '"', stop, (content:gsub("\\(.)", "%1"))
end

-- Replace the first string or list of lists in a member with one of these names by an object, which the transcoder
-- refuses. It would take "yes" for true, and a string or a list of lists for a list. Reads the same tokens as it does.
local function with_refused_type(text, names)
  local position, depth, last, member, list = 1, 0
  while true do
    local start = text:find("%S", position)
    local first, stop, content
    if start then first, stop, content = token_at(text, start) end
    if not stop then return text end  -- the end, or a string without one
    if member and first == '"' then return text:sub(1, start - 1) .. "{}" .. text:sub(stop + 1) end
    if list and depth == 2 and first == "[" then return text:sub(1, start - 1) .. "{}," .. text:sub(start) end
    if depth == 1 then list = member end
    member = depth == 1 and first == ":" and names[last]
    last, position = content, stop + 1
    if first == "{" or first == "[" then depth = depth + 1 elseif first == "}" or first == "]" then depth = depth - 1 end
  end
end

local function on_grpc_request(handle, headers, route)
  headers:replace("te", "trailers")  -- grpcio resets streams without it
  local status = route:get("refuse") and "404" or grpc_rejection(headers)
  -- Unary calls wait here for their message. Requests must have no trailers.
  if not status and route:get("buffer_request") and handle:body() and handle:trailers() then status = "400" end
  if status then reject(handle, status) end
end

-- Return the HTTP status that rejects a request's content type, or nil. A GET may have any but gRPC's.
local function content_rejection(headers, has_json, media_type)
  local content_type = headers:get("content-type") or ""
  local encoding = (headers:get("content-encoding") or "identity"):lower()
  if content_type:find("^application/grpc$") or content_type:find("^application/grpc%+")
    or has_json and (encoding ~= "identity" or media_type ~= "application/json" and media_type ~= "") then
    return "415"
  end
end

-- Return the HTTP status that rejects a REST request by its route, and the headers to send with it; or nil.
local function route_rejection(method, query, route)
  local allow = route:get("allow")
  if not allow then return "404" end
  if not (", " .. allow .. ","):find(", " .. method .. ",", 1, true) then return "405", { ["allow"] = allow } end
  if query ~= "" and not route:get("query") then return "400" end
end

local function on_rest_request(handle, headers, route)
  local method, bytes, count = headers:get(":method"), header_size(headers)
  local path, query = (headers:get(":path") or ""):match("^([^?]*)%??(.*)$")
  local has_json = method == "POST" or method == "PUT"
  local media_type = ((headers:get("content-type") or "") .. ";"):match("^%s*(.-)%s*;"):lower()
  local wrong_content = content_rejection(headers, has_json, media_type)
  remove_all_but(headers, FORWARDED)
  if bytes > MAX_REST_BYTES or count > MAX_REST_HEADERS then return reject(handle, "431") end
  -- No path of the contract contains percent-encoding, dot segments or empty segments.
  local plain = path:gsub("^/%.well%-known/", "/")
  if not path:find("^/[%w/_:.-]*$") or path:find("//", 1, true) or plain:find("/.", 1, true) then
    return reject(handle, "404")
  end
  set_metadata(handle, "path", path)
  if query == "" then headers:replace(":path", path) end
  local status, allowed = route_rejection(method, query, route)
  status = status or wrong_content
  if status then return reject(handle, status, allowed) end
  local fixed_body = route:get("openapi") and OPENAPI or route:get("body")
  if fixed_body then
    return handle:respond({ [":status"] = "200", ["content-type"] = "application/json" }, fixed_body)
  end

  -- Buffer the body: the transcoder's size limit doesn't apply to small pieces.
  local rewrite, names = route:get("rewrite"), route:get("never_strings")
  local body = handle:body(rewrite ~= nil)
  if has_json and media_type == "" and body and body:length() > 0 then return reject(handle, "415") end
  if rewrite then expand_shorthand(handle, body, path, rewrite) end
  if names and body then body:setBytes(with_refused_type(body:getBytes(0, body:length()), names)) end
  -- The transcoder accepts truncated JSON before trailers.
  if handle:trailers() then return reject(handle, "400") end
end

function envoy_on_request(handle)
  local headers, route = handle:headers(), handle:metadata()
  identify(handle, headers)
  if not (headers:get("grpc-timeout") or ""):find("^%d%d?%d?%d?%d?%d?%d?%d?[HMSmun]$") then
    headers:replace("grpc-timeout", DEFAULT_TIMEOUT)
  end
  local on_request = route:get("grpc") and on_grpc_request or on_rest_request
  on_request(handle, headers, route)
end

-- Return the problem document for this error text of the transcoder, or nil if it names no part of the JSON.
local function type_problem(text)
  for _, type_error in ipairs(TYPE_ERRORS) do
    local name = text:match(type_error[1])
    if name then return (type_error[2]:gsub("FIELD", (tostring(name):gsub("_(%l)", string.upper)))) end
  end
end

-- Replace the body of an error with the problem document in the service's headers, or that of the HTTP status.
local function write_problem(handle, status, path)
  local body, headers = handle:body(true), handle:headers()
  local problem = headers:get("x-problem")
  if problem then
    status = headers:get("x-problem-status")
  elseif status == "400" then
    problem = type_problem(body:getBytes(0, body:length()))
    if problem then status = TYPE_ERROR_STATUS end
  end
  if not PROBLEMS[status] then status = "500" end
  problem = (problem or PROBLEMS[status]):sub(1, -2) .. ',"instance":"' .. path .. '"}'
  headers:replace(":status", status)
  headers:replace("content-type", "application/problem+json")
  body:setBytes(problem)
  return status
end

-- Reduce a list response to its array. JSON escapes no character of a page token.
local function write_list(handle, list)
  local body, headers = handle:body(true), handle:headers()
  local text = body:getBytes(0, body:length())
  local items, token = text:match('^{"' .. list .. '":(%[.*%]),"nextPageToken":"([%w_.-]*)"}$')
  body:setBytes(items)
  if token ~= "" then headers:replace("x-next-page-token", token) end
end

-- grpcio answers CANCELLED (499 after the transcoder) to calls that it doesn't accept: too many, or while it stops.
local function replace_cancelled(headers, status)
  if status == "499" then
    headers:replace("x-problem", OVERLOADED)
    headers:replace("x-problem-status", OVERLOADED_STATUS)
  elseif headers:get("grpc-status") == CANCELLED then
    headers:replace("grpc-status", OVERLOADED_CODE)
    headers:replace("grpc-message", OVERLOADED_MESSAGE)
    headers:replace("grpc-status-details-bin", OVERLOADED_DETAILS)
  end
end

-- Write the REST response, and return its status.
local function on_rest_response(handle, route, status, path)
  if status ~= "200" then
    status = write_problem(handle, status, path)
  else
    handle:headers():replace(":status", route:get("success"))
    if route:get("cache") then
      handle:headers():replace("cache-control", route:get("cache"))
      handle:headers():replace("vary", "origin")  -- which the CORS headers depend on
    end
    if route:get("list") then write_list(handle, route:get("list")) end
  end
  local headers = handle:headers()
  for _, name in ipairs({ "grpc-status", "grpc-message", "grpc-accept-encoding", "x-problem", "x-problem-status" }) do
    headers:remove(name)
  end
  local trailers = handle:trailers()
  if trailers then remove_all_but(trailers, {}) end
  return status
end

function envoy_on_response(handle)
  local headers, route = handle:headers(), handle:metadata()
  local edge = handle:streamInfo():dynamicMetadata():get("edge") or {}
  local status = edge["rejected"] or headers:get(":status")
  replace_cancelled(headers, status)
  if headers:get("grpc-status") and not headers:get("content-type") then  -- Envoy's own reply to a gRPC-Web call
    headers:replace("content-type", "application/grpc-web+proto")
  end
  if not route:get("grpc") and headers:get("content-type") ~= "application/problem+json" then
    if not edge["rejected"] and not route:get("success") then return end
    status = on_rest_response(handle, route, status, edge["path"] or "")
    headers = handle:headers()  -- reading the body can invalidate the old reference
  end
  if (status == "429" or status == "503") and not headers:get("retry-after") then
    headers:replace("retry-after", RETRY_SECONDS)
  end
end
