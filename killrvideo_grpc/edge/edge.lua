-- Runs in Envoy, in front of its gRPC-JSON transcoder. Refuses requests that match no route of the contract, and turns
-- errors into problem documents (RFC 9457). render.py prepends the constants that it uses, such as PROBLEMS.
-- Of a request, only its path and its request id are copied into responses, after their characters have been checked.

local DEFAULT_TIMEOUT = "10S"
-- The headers of a REST request that are forwarded to the service. gRPC would interpret others, such as grpc-encoding.
local FORWARDED = {
  ["authorization"] = true, ["content-length"] = true, ["grpc-timeout"] = true, ["traceparent"] = true,
  ["tracestate"] = true, ["transfer-encoding"] = true, ["user-agent"] = true, ["x-request-id"] = true,
}
-- MAX_GRPC_BYTES is below the 64 KiB that the service accepts, because Envoy adds headers of its own.
local MAX_REST_BYTES, MAX_REST_HEADERS, MAX_GRPC_BYTES = 16384, 100, 64512
local GRPC_ENCODINGS = { identity = true, gzip = true, deflate = true }
-- Patterns of the transcoder's error texts for JSON that doesn't fit the message, and the problem documents to send
-- instead. The first capture is the field's name; () captures a position, for problems that name no field.
local MISFITS = {
  { "^([%w_.]+)%[?%d*%]?: invalid value", WRONG_TYPE },  -- without the list index, which may be wrong
  { "^: invalid value Starting an object on a scalar field for type ([%w_]+)$", WRONG_TYPE },
  { '^The binding value "[^"]*" of the field ([%w_.]+) is conflicting with', IN_PATH },
  { "^[%w_.]*(): ", WRONG_FORM },
}

local function note(handle, key, value)
  handle:streamInfo():dynamicMetadata():set("edge", key, value)
end

-- Envoy writes the problem document (see local_replies.py). If the content type is gRPC's, Envoy writes a gRPC status
-- instead, and envoy_on_response replaces it with the problem document.
local function refuse(handle, status, headers)
  headers = headers or {}
  headers[":status"] = status
  note(handle, "refused", status)
  handle:respond(headers, "")
end

-- Keeps the caller's request id if it is short and harmless, and replaces it with a fresh one otherwise.
local function set_request_id(handle, headers)
  local id = headers:get("x-request-id") or ""
  if #id > 128 or not id:find("^[%w%._:/+=-]+$") then id = headers:get("x-fresh-id") end
  headers:replace("x-request-id", id)
  headers:remove("x-fresh-id")
  note(handle, "request_id", id)
end

-- Returns the size of the headers in bytes, as HTTP/2 counts it, and their number.
local function size_of(headers)
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

-- Returns the HTTP status for a gRPC call that grpcio would answer with INTERNAL or refuse at random, or nil.
local function refusal_of_grpc(headers)
  for name, value in pairs(headers) do
    if name:sub(-4) == "-bin" and not value:find("^[%w+/=,]*$") then return "400" end
  end
  if size_of(headers) > MAX_GRPC_BYTES then return "431" end
  if not GRPC_ENCODINGS[headers:get("grpc-encoding") or "identity"] then return "501" end
end

-- Replaces a short path with the full one. If the call has no body, its path becomes the reason in the audit trail.
local function expand(handle, body, path, rewrite)
  local headers = handle:headers()
  local text = body:getBytes(0, body:length())
  if text:find("^%s*$") or text:find("^%s*{%s*}%s*$") then
    body:setBytes('{"reason":"POST ' .. path .. '"}')
  end
  headers:replace(":path", (path:gsub("/[^/]*$", rewrite)))
end

function envoy_on_request(handle)
  local headers, route = handle:headers(), handle:metadata()
  set_request_id(handle, headers)
  if not (headers:get("grpc-timeout") or ""):find("^%d%d?%d?%d?%d?%d?%d?%d?[HMSmun]$") then
    headers:replace("grpc-timeout", DEFAULT_TIMEOUT)
  end
  if route:get("grpc") then
    local status = refusal_of_grpc(headers)
    -- Unary calls wait for their message here, where waiting costs the service nothing. Requests must have no trailers.
    if not status and route:get("whole") and handle:body() and handle:trailers() then status = "400" end
    if status then refuse(handle, status) end
    return
  end

  local method, bytes, count = headers:get(":method"), size_of(headers)
  local content_type = headers:get("content-type") or ""
  local kind = (content_type .. ";"):match("^%s*(.-)%s*;"):lower()
  local encoding = (headers:get("content-encoding") or "identity"):lower()
  local path, query = (headers:get(":path") or ""):match("^([^?]*)(.*)$")
  remove_all_but(headers, FORWARDED)
  if bytes > MAX_REST_BYTES or count > MAX_REST_HEADERS then return refuse(handle, "431") end
  -- No path of the contract contains percent-encoding, dot segments or empty segments.
  if not path:find("^/[%w/_:.-]*$") or path:find("//", 1, true) or path:find("/.", 1, true) then
    return refuse(handle, "404")
  end
  note(handle, "path", path)
  local allow = route:get("allow")
  if not allow then return refuse(handle, "404") end
  if not (", " .. allow .. ","):find(", " .. method .. ",", 1, true) then
    return refuse(handle, "405", { ["allow"] = allow })
  end
  if query ~= "" and not route:get("query") then return refuse(handle, "400") end
  -- The content type of a GET is ignored, because the web client sends one, unless it is gRPC's.
  local has_json = method == "POST" or method == "PUT"
  if content_type:find("^application/grpc$") or content_type:find("^application/grpc%+")
    or has_json and (encoding ~= "identity" or kind ~= "application/json" and kind ~= "") then
    return refuse(handle, "415")
  end
  local fixed = route:get("body")
  if fixed then return handle:respond({ [":status"] = "200", ["content-type"] = "application/json" }, fixed) end

  -- Waits until the body is complete. Envoy answers 413 if it exceeds the buffer; the transcoder's own limit would not
  -- apply to a body that arrives in small pieces.
  local rewrite = route:get("rewrite")
  local body = handle:body(rewrite ~= nil)
  if has_json and kind == "" and body and body:length() > 0 then return refuse(handle, "415") end
  if rewrite then expand(handle, body, path, rewrite) end
  -- The service would interpret trailers as gRPC's, and the transcoder accepts truncated JSON that trailers follow.
  if handle:trailers() then return refuse(handle, "400") end
end

-- Returns the problem document for a request that the transcoder has refused with this text, or nil if the text doesn't
-- say which part of the JSON is wrong.
local function problem_of_body(text)
  for _, misfit in ipairs(MISFITS) do
    local name = text:match(misfit[1])
    if name then return (misfit[2]:gsub("FIELD", (tostring(name):gsub("_(%l)", string.upper)))) end
  end
end

-- Replaces the body of an error with a problem document: the one that the service sent in headers, or the HTTP status's.
local function write_problem(handle, status, path)
  local body, headers = handle:body(true), handle:headers()
  local problem = headers:get("x-problem")
  if problem then
    status = headers:get("x-problem-status")
  elseif status == "400" then
    problem = problem_of_body(body:getBytes(0, body:length()))
    if problem then status = MISFIT_STATUS end
  end
  if not PROBLEMS[status] then status = "500" end
  problem = (problem or PROBLEMS[status]):sub(1, -2) .. ',"instance":"' .. path .. '"}'
  headers:replace(":status", status)
  headers:replace("content-type", "application/problem+json")
  body:setBytes(problem)
  return status
end

-- Reduces a list response to its array. Page tokens contain no characters that JSON would escape.
local function write_list(handle, list)
  local body, headers = handle:body(true), handle:headers()
  local text = body:getBytes(0, body:length())
  local items, token = text:match('^{"' .. list .. '":(%[.*%]),"nextPageToken":"([%w_.-]*)"}$')
  body:setBytes(items)
  if token ~= "" then headers:replace("x-next-page-token", token) end
end

function envoy_on_response(handle)
  local headers, route = handle:headers(), handle:metadata()
  local edge = handle:streamInfo():dynamicMetadata():get("edge") or {}
  local status = edge["refused"] or headers:get(":status")
  -- grpcio answers CANCELLED, which the transcoder turns into 499, if more calls are waiting than it accepts, or if the
  -- worker stops before it has accepted the call.
  if status == "499" then
    headers:replace("x-problem", OVERLOADED)
    headers:replace("x-problem-status", OVERLOADED_STATUS)
  elseif headers:get("grpc-status") == CANCELLED then
    headers:replace("grpc-status", OVERLOADED_CODE)
    headers:replace("grpc-message", OVERLOADED_MESSAGE)
    headers:replace("grpc-status-details-bin", OVERLOADED_DETAILS)
  end
  if headers:get("grpc-status") and not headers:get("content-type") then  -- Envoy's own reply to a gRPC-Web call
    headers:replace("content-type", "application/grpc-web+proto")
  end
  if not route:get("grpc") and headers:get("content-type") ~= "application/problem+json" then
    if not edge["refused"] and not route:get("success") then return end
    if status ~= "200" then
      status = write_problem(handle, status, edge["path"] or "")
    else
      headers:replace(":status", route:get("success"))
      if route:get("list") then write_list(handle, route:get("list")) end
    end
    headers = handle:headers()  -- reading the body may have invalidated the old reference
    for _, name in ipairs({ "grpc-status", "grpc-message", "grpc-accept-encoding", "x-problem", "x-problem-status" }) do
      headers:remove(name)
    end
    local trailers = handle:trailers()
    if trailers then remove_all_but(trailers, {}) end
  end
  if (status == "429" or status == "503") and not headers:get("retry-after") then
    headers:replace("retry-after", RETRY_SECONDS)
  end
end
