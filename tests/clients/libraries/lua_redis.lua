-- lua-redis, with LuaSocket below it.
local redis = require 'redis'
local host, port = os.getenv 'KW_HOST', tonumber(os.getenv 'KW_PORT')
local prefix = os.getenv 'KW_PREFIX'
local later = {}
for name in os.getenv('KW_LATER'):gmatch '[^,]+' do later[name] = true end
io.stdout:setvbuf 'line'

-- Commands that this library has no methods for, passed on as they are.
local function raw(name)
    return redis.command(name)
end
local function dial()
    local c = redis.connect { host = host, port = port, timeout = 20 }
    for method, name in pairs {
        strlen2 = 'STRLEN', geoadd = 'GEOADD', geodist = 'GEODIST', georadius = 'GEORADIUS',
        pfadd2 = 'PFADD', pfcount2 = 'PFCOUNT', xadd = 'XADD', xrange = 'XRANGE', xlen = 'XLEN',
        xgroup = 'XGROUP', xreadgroup = 'XREADGROUP', xack = 'XACK', xread = 'XREAD',
        bzpopmin = 'BZPOPMIN', nosuch = 'NOSUCHCOMMAND', clientcmd = 'CLIENT', exists2 = 'EXISTS',
        hscan2 = 'HSCAN', sscan2 = 'SSCAN', scan2 = 'SCAN', set2 = 'SET', scriptcmd = 'SCRIPT',
        hset2 = 'HSET', getrange2 = 'GETRANGE', incrbyfloat2 = 'INCRBYFLOAT', bitpos = 'BITPOS',
        eval2 = 'EVAL', evalsha2 = 'EVALSHA', psub = 'PUBLISH', zrange2 = 'ZRANGE',
        hincrbyfloat2 = 'HINCRBYFLOAT', expire2 = 'EXPIRE', persist2 = 'PERSIST',
        sismember2 = 'SISMEMBER', hgetall2 = 'HGETALL', zrangebyscore2 = 'ZRANGEBYSCORE',
    } do
        c[method] = raw(name)
    end
    return c
end

local function k(name) return prefix .. ':' .. name end
local function t(name) return '{' .. prefix .. '}:' .. name end

local function text(v)
    if type(v) == 'table' then
        if v.queued then return 'QUEUED' end
        local parts = {}
        for _, x in ipairs(v) do parts[#parts + 1] = text(x) end
        return '[' .. table.concat(parts, ' ') .. ']'
    end
    return tostring(v)
end

local function same(want, ...)
    local parts = {}
    for i = 1, select('#', ...) do parts[i] = text((select(i, ...))) end
    local got = table.concat(parts, ' ')
    if got ~= want then error('expected ' .. want .. ', got ' .. got:sub(1, 200), 0) end
end

local function op(name, f)
    if later[name] then
        print('later ' .. name)
        return
    end
    local good, why = pcall(f)
    print(good and 'ok ' .. name or 'FAIL ' .. name .. ': ' .. tostring(why):gsub('%s+', ' '):sub(1, 300))
end

local function fails(what, f, ...)
    local good, why = pcall(f, ...)
    if good or not tostring(why):find(what, 1, true) then
        error('expected an error with ' .. what .. ', got ' .. text(why), 0)
    end
end

local function soon(line)
    os.execute(('(sleep 0.3; redis-cli -h %s -p %d %s) >/dev/null 2>&1 &'):format(host, port, line))
end

local function heard(pattern)
    local sub, name, got = dial(), pattern and k 'p1' or k 'ch', {}
    local channels = pattern and { psubscribe = { k 'p?' } } or { subscribe = { name } }
    for message, abort in sub:pubsub(channels) do
        if message.kind:find 'subscribe' then
            local pub = dial()
            pub:publish(name, 'one')
            pub:publish(name, '\0\r\n')
        elseif message.kind:find 'message' then
            got[#got + 1] = message.payload
            if #got == 2 then abort() end
        end
    end
    same('one \0\r\n', got[1], got[2])
end

local function follow(step)
    local all, n, cursor = {}, 0, '0'
    repeat
        local page = step(cursor)
        cursor = page[1]
        for _, x in ipairs(page[2]) do
            if not all[x] then all[x], n = true, n + 1 end
        end
    until cursor == '0'
    return n
end

local r = dial()
print('version ' .. redis._VERSION:match '[%d.]+[%w-]*')
op('ping', function() same('true', r:ping()) end)
op('echo', function() same('a b', r:echo 'a b') end)
op('set_get', function() same('true v', r:set(k 'a', 'v'), r:get(k 'a')) end)
op('set_options', function()
    same('true nil true', r:set(k 'o', 1, 'NX', 'EX', 100), r:set2(k 'o', 2, 'NX'), r:set(k 'o', 3, 'XX'))
end)
op('empty_value', function() r:set(k 'e', ''); same(' 0', r:get(k 'e'), r:strlen2(k 'e')) end)
op('binary', function()
    r:set(k 'b\0\r\n', '\0\r\n$-1\r\n\255')
    same('\0\r\n$-1\r\n\255', r:get(k 'b\0\r\n'))
end)
op('large_value', function()
    local value = ('0123456789abcde\n'):rep(65536)
    r:set(k 'large', value)
    if r:get(k 'large') ~= value then error 'it came back changed' end
end)
op('missing_key', function() same('nil nil 0', r:get(k 'no'), r:lpop(k 'no'), r:llen(k 'no')) end)
op('incr', function()
    same('1 42 41 41.5', r:incr(k 'n'), r:incrby(k 'n', 41), r:decr(k 'n'), r:incrbyfloat2(k 'n', 0.5))
end)
op('append_getrange', function()
    same('5 10 world', r:append(k 'ap', 'hello'), r:append(k 'ap', 'world'), r:getrange2(k 'ap', 5, -1))
end)
local many, pairs_, want = {}, {}, {}
for i = 1, 30 do
    many[i], want[i] = k('m' .. i), tostring(i)
    pairs_[2 * i - 1], pairs_[2 * i] = k('m' .. i), i
end
op('mset_mget', function()
    same('true', r:mset(unpack(pairs_)))
    same('[' .. table.concat(want, ' ') .. ']', r:mget(unpack(many)))
end)
op('del_exists', function()
    same('30 30 0', r:exists2(unpack(many)), r:del(unpack(many)), r:exists2(unpack(many)))
end)
op('expire_ttl', function()
    r:set(k 'ex', 1)
    same('1 true 1 -1', r:expire2(k 'ex', 100), r:ttl(k 'ex') >= 98, r:persist2(k 'ex'), r:ttl(k 'ex'))
end)
op('bits', function()
    same('0 1 1 7', r:setbit(k 'bit', 7, 1), r:getbit(k 'bit', 7), r:bitcount(k 'bit'), r:bitpos(k 'bit', 1))
end)
op('hash', function()
    same('2 [a 1 b ] 1', r:hset2(k 'h', 'a', 1, 'b', ''), r:hgetall2(k 'h'), r:hdel(k 'h', 'b'))
    same('1', r:hgetall(k 'h').a)
end)
op('hash_incr', function() same('11 11.5', r:hincrby(k 'h', 'a', 10), r:hincrbyfloat2(k 'h', 'a', 0.5)) end)
op('hscan', function()
    for i = 1, 600 do r:hset2(k 'hs', 'f' .. i, 'v' .. i) end
    same('1200', follow(function(c) return r:hscan2(k 'hs', c, 'COUNT', 50) end))
end)
op('list', function()
    same('4 [a b c d] a d 2', r:rpush(k 'l', 'a', 'b', 'c', 'd'), r:lrange(k 'l', 0, -1), r:lpop(k 'l'),
        r:rpop(k 'l'), r:llen(k 'l'))
end)
op('list_move', function()
    same('2 2 [2]', r:rpush(t 'l1', 1, 2), r:rpoplpush(t 'l1', t 'l2'), r:lrange(t 'l2', 0, -1))
end)
op('set', function()
    same('3 [1 2 3] 1 3', r:sadd(k 's', 3, 1, 2), r:smembers(k 's'), r:sismember2(k 's', 1), r:scard(k 's'))
end)
op('set_inter', function()
    r:sadd(t 's1', 1, 2)
    r:sadd(t 's2', 2, 3)
    same('[2] 3', r:sinter(t 's1', t 's2'), r:sunionstore(t 's3', t 's1', t 's2'))
end)
op('sscan', function()
    for i = 1, 600 do r:sadd(k 'ss', 'm' .. i) end
    same('600', follow(function(c) return r:sscan2(k 'ss', c, 'COUNT', 50) end))
end)
op('zset', function()
    for score, member in pairs { [1] = 'a', [2.5] = 'b', [3] = 'c' } do r:zadd(k 'z', score, member) end
    same('[a 1 b 2.5 c 3] 1', r:zrange2(k 'z', 0, -1, 'WITHSCORES'), r:zrank(k 'z', 'b'))
end)
op('zset_byscore', function() same('[b c]', r:zrangebyscore2(k 'z', '(1', '+inf')) end)
op('zset_incr', function() same('3.5 3.5', r:zincrby(k 'z', 2.5, 'a'), r:zscore(k 'z', 'a')) end)
op('hyperloglog', function() same('1 3', r:pfadd2(k 'pf', 'a', 'b', 'c'), r:pfcount2(k 'pf')) end)
op('geo', function()
    same('2 166.2742 [C P]', r:geoadd(k 'g', 13.361389, 38.115556, 'P', 15.087269, 37.502669, 'C'),
        r:geodist(k 'g', 'P', 'C', 'km'), r:georadius(k 'g', 15, 37, 200, 'km', 'ASC'))
end)
op('stream', function()
    same('1-1 1-2', r:xadd(k 'x', '1-1', 'a', 1), r:xadd(k 'x', '1-2', 'a', 2))
    same('[[1-1 [a 1]] [1-2 [a 2]]] 2', r:xrange(k 'x', '-', '+'), r:xlen(k 'x'))
end)
op('stream_group', function()
    r:xgroup('CREATE', k 'xg', 'g', 0, 'MKSTREAM')
    r:xadd(k 'xg', '1-1', 'a', 1)
    same('[[' .. k 'xg' .. ' [[1-1 [a 1]]]]] 1', r:xreadgroup('GROUP', 'g', 'c', 'STREAMS', k 'xg', '>'),
        r:xack(k 'xg', 'g', '1-1'))
end)
op('type_rename', function()
    r:set(t 'r1', 'x')
    same('string true x', r:type(t 'r1'), r:rename(t 'r1', t 'r2'), r:get(t 'r2'))
end)
op('sort', function() r:rpush(k 'so', 3, 1, 2); same('[1 2 3]', r:sort(k 'so')) end)
op('eval', function()
    same('[' .. k 'ev' .. ' x 7]', r:eval2('return {KEYS[1], ARGV[1], 7}', 1, k 'ev', 'x'))
end)
op('evalsha', function()
    local sha = r:scriptcmd('LOAD', "return redis.call('incr', KEYS[1])")
    same('1 2', r:evalsha2(sha, 1, k 'es'), r:evalsha2(sha, 1, k 'es'))
end)
op('noscript', function()
    local sha = r:scriptcmd('LOAD', 'return {KEYS[1], ARGV[1], 42}')
    for i = 1, 20 do same('[' .. k('s' .. i) .. ' a 42]', r:evalsha2(sha, 1, k('s' .. i), 'a')) end
    fails('NOSCRIPT', r.evalsha2, r, ('f'):rep(40), 1, k 's')
end)
op('wrong_type', function() r:set(k 'wt', 1); fails('WRONGTYPE', r.lpush, r, k 'wt', 1) end)
op('unknown_command', function() fails('unknown command', r.nosuch, r, 'a') end)
op('pipeline', function()
    local replies = r:pipeline(function(p)
        for i = 1, 500 do
            p:set(k('p' .. i), i)
            p:get(k('p' .. i))
        end
    end)
    for i = 1, 500 do same('true ' .. i, replies[2 * i - 1], replies[2 * i]) end
end)
print('none pipeline_error: an error inside a pipeline leaves its replies unread, whoever the server')
op('scan', function()
    for i = 1, 300 do r:set(k('scan:' .. i), '') end
    same('300 300', follow(function(c) return r:scan2(c, 'MATCH', k 'scan:*', 'COUNT', 50) end),
        #r:keys(k 'scan:*'))
end)
op('dbsize', function() same('true', r:dbsize() >= 300) end)
op('info', function() same('true', r:info().server.redis_version > '6') end)
op('client_name', function()
    same('true kw-name', r:clientcmd('SETNAME', 'kw-name'), r:clientcmd 'GETNAME')
end)
op('publish', function() heard(false) end)
op('psubscribe', function() heard(true) end)
op('multi', function()
    local replies = r:transaction(function(x)
        x:set(t 'tx', 7)
        x:incr(t 'tx')
    end)
    same('true 8', replies[1], replies[2])
end)
op('watch', function()
    local other = dial()
    r:set(t 'w', 1)
    local first = true
    local replies = r:transaction({ watch = t 'w', cas = true, retry = 2 }, function(x)
        local v = x:get(t 'w')
        if first then other:set(t 'w', 2) end
        first = false
        x:multi()
        x:set(t 'w', v + 1)
    end)
    same('true 3', replies[1], r:get(t 'w'))
end)
op('blpop', function()
    r:rpush(k 'bl', 'x')
    same('[' .. k 'bl' .. ' x] nil', r:blpop(k 'bl', 5), (r:blpop(k 'bl', 1)))
end)
op('brpop_wait', function()
    soon('LPUSH ' .. k 'later' .. ' job')
    same('[' .. k 'later' .. ' job]', r:brpop(k 'later', 10))
end)
op('bzpopmin', function()
    r:zadd(k 'bz', 2, 'a')
    r:zadd(k 'bz', 1, 'b')
    same('[' .. k 'bz' .. ' b 1]', r:bzpopmin(k 'bz', 5))
end)
op('xread_block', function()
    soon('XADD ' .. k 'xb' .. ' 7-7 a 1')
    same('[[' .. k 'xb' .. ' [[7-7 [a 1]]]]]', r:xread('BLOCK', 10000, 'STREAMS', k 'xb', '$'))
end)
print 'done'
