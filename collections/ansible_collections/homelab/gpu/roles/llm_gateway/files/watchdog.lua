-- Copyright (c) 2026, homelab.gpu contributors
-- GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
-- SPDX-License-Identifier: GPL-3.0-or-later
--
-- What HAProxy's own checks cannot tell. A check asks whether a server is up; this asks whether requests that it has taken will ever be answered:
-- * A server whose check ran out of time hangs. Requests that wait there are cut off, so that HAProxy sends them to the next server. After other
--   failures they are left alone: a server that refuses connections may be finishing what it has.
-- * A model server may say that it is healthy while its worker stands still. So it is asked for one token, now and then, and at once when requests wait
--   and nothing comes. If neither an answer nor anything else comes out of it for stall_ms, it is put into maintenance until it answers again.

local settings = llm_gateway
local TICK_MS = 50
local TIMEOUTS = { L4TOUT = true, L6TOUT = true, L7TOUT = true }

-- Servers that this program has put into maintenance, by name; it never ends a maintenance that somebody else began
local held = {}

local function now_ms()
  local now = core.now()
  return now.sec * 1000 + now.usec // 1000
end

local function servers()
  return core.backends[settings.backend].servers
end

local function hold(name, server, reason)
  if not held[name] then
    held[name] = true
    core.log(core.warning, string.format("Server %s/%s is taken out by the watchdog: %s", settings.backend, name, reason))
    server:set_maint()
  end
  server:shut_sess()
end

local function release(name, server)
  held[name] = nil
  core.log(core.notice, string.format("Server %s/%s answers again and is taken back by the watchdog", settings.backend, name))
  server:set_ready()
end

-- Address and port, or nothing for a server that DNS does not know (yet)
local function address_of(server)
  local address, port = server:get_addr():match("^%[?([%x:%.]+)%]?:(%d+)$")
  if address and address ~= "0.0.0.0" and address ~= "::" then
    return address, tonumber(port)
  end
end

-- One request with a deadline. Status and body, or nothing and why
local function ask(server, method, path, body, timeout_ms)
  local address, port = address_of(server)
  if not address then
    return nil, "unresolved"
  end
  local socket = core.tcp()
  socket:settimeout(timeout_ms / 1000)
  if not socket:connect(address, port) then
    socket:close()
    return nil, "connect"
  end
  local lines = { method .. " " .. path .. " HTTP/1.0", "Host: gateway", "User-Agent: homelab-gpu-gateway", "Connection: close" }
  if body then
    lines[#lines + 1] = "Content-Type: application/json"
    lines[#lines + 1] = "Content-Length: " .. #body
  end
  local answer = socket:send(table.concat(lines, "\r\n") .. "\r\n\r\n" .. (body or "")) and socket:receive("*a")
  socket:close()
  local status = answer and answer:match("^HTTP/%d%.%d (%d%d%d)")
  if not status then
    return nil, "timeout"
  end
  return tonumber(status), answer:match("\r\n\r\n(.*)$") or ""
end

local function quoted(text)
  return '"' .. text:gsub('[%c"\\]', function(c) return string.format("\\u%04x", c:byte()) end) .. '"'
end

local function model_of(server, probe, timeout_ms)
  if probe.model == "" then
    local status, body = ask(server, "GET", "/v1/models", nil, timeout_ms)
    probe.found = status == 200 and body:match('"id"%s*:%s*"([^"]+)"') or probe.found
  end
  return probe.model ~= "" and probe.model or probe.found
end

-- "answered", "nothing" (an answer without a token), "silent" (no answer), or "unknown" (what only the checks can judge)
local function probe_once(server, probe, timeout_ms)
  local model = probe.known or model_of(server, probe, timeout_ms)
  local fields = '"prompt":"1","max_tokens":1,"temperature":0,"stream":false}'
  local status, body = ask(server, "POST", probe.path, "{" .. (model and '"model":' .. quoted(model) .. "," or "") .. fields, timeout_ms)
  if not status then
    return body == "timeout" and "silent" or "unknown"
  elseif status == 200 then
    probe.known = model
    return body:match('"completion_tokens"%s*:%s*[1-9]') and not body:match('"finish_reason"%s*:%s*"abort"') and "answered" or "nothing"
  end
  -- Another model may be served by now. Whatever it says, it did answer; errors of the server are judged by checks and by real requests
  probe.known = nil
  return status < 500 and "answered" or "unknown"
end

-- What grows while a server computes: tokens by its own metrics, and bytes that it sent. A server with a full queue moves, one that hangs does not
local function progress(server, probe, timeout_ms)
  local signs = { tostring(server:get_stats().bout) }
  if probe.metrics ~= "" then
    local status, body = ask(server, "GET", probe.metrics, nil, timeout_ms)
    if status == 200 then
      for line in body:gmatch("[^\n]+") do
        if line:match("^[%w_:]*token") then
          signs[#signs + 1] = line
        end
      end
    end
  end
  return table.concat(signs, "\n")
end

local function judge(name, server, probe)
  local half = math.max(settings.stall_ms // 2, 1)
  local first = probe_once(server, probe, half)
  if first == "answered" then
    if held[name] then
      release(name, server)
    end
    return
  end
  if held[name] or first == "unknown" then
    return
  end
  local before = progress(server, probe, half)
  local second = probe_once(server, probe, half)
  if second == "silent" and progress(server, probe, half) == before then
    hold(name, server, string.format("no token for %d ms", settings.stall_ms))
  elseif first == "nothing" and second == "nothing" then
    hold(name, server, "it answers 200 with nothing in it")
  end
end

local function watch(name, server, probe)
  local asked, sent, quiet_since = now_ms(), nil, nil
  while true do
    core.msleep(TICK_MS)
    local stats, now = server:get_stats(), now_ms()
    if stats.bout ~= sent or (stats.scur or 0) == 0 then
      sent, quiet_since = stats.bout, now
    end
    local up = held[name] or (stats.status:match("^UP") and address_of(server))
    local waited = now - asked
    if up and (waited >= settings.interval_ms or (waited >= settings.silence_ms and (held[name] or now - quiet_since >= settings.silence_ms))) then
      judge(name, server, probe)
      asked = now_ms()
    end
  end
end

core.register_task(function()
  local hung = {}
  while true do
    core.msleep(TICK_MS)
    for name, server in pairs(servers()) do
      local stats = server:get_stats()
      local hangs = stats.status:match("^DOWN") and TIMEOUTS[stats.check_status] or false
      if hangs and not hung[name] then
        server:shut_sess()
      end
      hung[name] = hangs
    end
  end
end)

core.register_init(function()
  for name, server in pairs(servers()) do
    local backend = name:gsub("%-%d+$", "")
    local probe = settings.probes[backend]
    if probe then
      local own = { path = probe.path, model = probe.model, metrics = probe.metrics }
      core.register_task(function() watch(name, server, own) end)
    end
  end
end)

-- A real answer with nothing in it: no reason to wait for the next probe, which decides about the way back, or the next checks do
core.register_action("doubt", { "http-res" }, function(txn)
  local name = txn.f:srv_name()
  local server, backend = servers()[name], name:gsub("%-%d+$", "")
  if settings.probes[backend] then
    hold(name, server, "it answered 200 with nothing in it")
  elseif settings.replaceable[backend] then
    server:check_force_down()
  end
end, 0)
