# redis-rb: Redis.new, its cluster: and its sentinels: option.
require 'redis'
require 'set'
$stdout.sync = true
MODE, PREFIX = ENV['KW_MODE'], ENV['KW_PREFIX']
HOST, PORT = ENV['KW_HOST'], ENV['KW_PORT'].to_i
LATER = ENV['KW_LATER'].split(',')

def one_server(**more)
  Redis.new(host: HOST, port: PORT, timeout: 20, **more)
end

def connect
  case MODE
  when 'cluster' then Redis.new(cluster: ["redis://#{HOST}:#{PORT}"], timeout: 20)
  when 'sentinel'
    Redis.new(host: 'mymaster', sentinels: [{ host: HOST, port: PORT }], role: :master, timeout: 20)
  else one_server
  end
end

def k(name) = "#{PREFIX}:#{name}"
def t(name) = "{#{PREFIX}}:#{name}"
def m(name) = MODE == 'cluster' ? t(name) : k(name)

def same(want, got)
  raise "expected #{want.inspect}, got #{got.inspect}" unless want == got
end

def op(name)
  return puts("later #{name}") if LATER.include?(name)
  yield
  puts "ok #{name}"
rescue StandardError => e
  puts "FAIL #{name}: #{e.class}: #{e.message.tr("\n", ' ')[0, 300]}"
end

def fails(text)
  got = yield
rescue Redis::CommandError => e
  raise unless e.message.include?(text)
else
  raise "expected an error, got #{got.inspect}"
end

def heard(pattern)
  got = []
  name = pattern ? k('p1') : k('ch')
  publisher = one_server
  subscriber = MODE == 'cluster' ? one_server : connect
  handler = lambda do |on|
    on.subscribe { publisher.publish(name, 'one'); publisher.publish(name, "\0\r\n") }
    on.psubscribe { publisher.publish(name, 'one'); publisher.publish(name, "\0\r\n") }
    on.message { |c, text| got << [c, text]; subscriber.unsubscribe if got.size == 2 }
    on.pmessage { |_, c, text| got << [c, text]; subscriber.punsubscribe if got.size == 2 }
  end
  if pattern then subscriber.psubscribe_with_timeout(20, k('p?'), &handler)
  else subscriber.subscribe_with_timeout(20, name, &handler)
  end
  same [[name, 'one'], [name, "\0\r\n"]], got
end

def soon
  Thread.new { sleep 0.3; yield one_server }
end

puts "version #{Redis::VERSION}"
r = connect
op('ping') { same 'PONG', MODE == 'cluster' ? one_server.ping : r.ping }
op('echo') { same 'a b', one_server.echo('a b') }
op('set_get') { same ['OK', 'v'], [r.set(k('a'), 'v'), r.get(k('a'))] }
op('set_options') do
  same [true, false, 'OK'], [r.set(k('o'), 1, nx: true, ex: 100), r.set(k('o'), 2, nx: true),
                             r.set(k('o'), 3, keepttl: true)]
  same '3', r.getset(k('o'), 4)
end
op('empty_value') { r.set(k('e'), ''); same ['', 0], [r.get(k('e')), r.strlen(k('e'))] }
op('binary') do
  data = "\0\r\n$-1\r\n\xff".b
  r.set(k("b\0\r\n"), data)
  same data, r.get(k("b\0\r\n")).b
end
op('large_value') do
  data = Random.new(1).bytes(1 << 20)
  r.set(k('large'), data)
  same true, r.get(k('large')).b == data
end
op('missing_key') { same [nil, nil, {}], [r.get(k('no')), r.lpop(k('no')), r.hgetall(k('no'))] }
op('incr') do
  same [1, 42, 41, 41.5], [r.incr(k('n')), r.incrby(k('n'), 41), r.decr(k('n')),
                           r.incrbyfloat(k('n'), 0.5)]
end
op('append_getrange') do
  same [5, 10, 'world'], [r.append(k('ap'), 'hello'), r.append(k('ap'), 'world'),
                          r.getrange(k('ap'), 5, -1)]
end
op('mset_mget') do
  same 'OK', r.mset(*(0...30).flat_map { |i| [m("m#{i}"), i] })
  same((0...30).map(&:to_s) + [nil], r.mget(*(0..30).map { |i| m("m#{i}") }))
end
op('del_exists') do
  names = (0...30).map { |i| m("m#{i}") }
  same [30, 30, 0], [r.exists(*names), r.del(*names), r.exists(*names)]
end
op('expire_ttl') do
  r.set(k('ex'), 1)
  same [true, true, true, -1, -2], [r.expire(k('ex'), 100), (98..100).cover?(r.ttl(k('ex'))),
                                    r.persist(k('ex')), r.ttl(k('ex')), r.ttl(k('no'))]
end
op('bits') do
  same [0, 1, 1, 7], [r.setbit(k('bit'), 7, 1), r.getbit(k('bit'), 7), r.bitcount(k('bit')),
                      r.bitpos(k('bit'), 1)]
end
op('hash') do
  same [2, { 'a' => '1', 'b' => '' }, ['1', nil], 1],
       [r.hset(k('h'), 'a', 1, 'b', ''), r.hgetall(k('h')), r.hmget(k('h'), 'a', 'z'),
        r.hdel(k('h'), 'b')]
end
op('hash_incr') { same [11, 11.5], [r.hincrby(k('h'), 'a', 10), r.hincrbyfloat(k('h'), 'a', 0.5)] }
op('hscan') do
  r.mapped_hmset(k('hs'), (0...1500).to_h { |i| ["f#{i}", i] })
  same 1500, r.hscan_each(k('hs'), count: 50).to_a.uniq.size
end
op('list') do
  same [4, %w[a b c d], 'a', 'd', 2], [r.rpush(k('l'), %w[a b c d]), r.lrange(k('l'), 0, -1),
                                       r.lpop(k('l')), r.rpop(k('l')), r.llen(k('l'))]
end
op('list_move') do
  same [2, '2', ['2']], [r.rpush(t('l1'), [1, 2]), r.rpoplpush(t('l1'), t('l2')),
                         r.lrange(t('l2'), 0, -1)]
end
op('set') do
  same [3, %w[a b c], true, 3], [r.sadd(k('s'), %w[a b c]), r.smembers(k('s')).sort,
                                 r.sismember(k('s'), 'a'), r.scard(k('s'))]
end
op('set_inter') do
  r.sadd(t('s1'), %w[a b])
  r.sadd(t('s2'), %w[b c])
  same [['b'], 3], [r.sinter(t('s1'), t('s2')), r.sunionstore(t('s3'), t('s1'), t('s2'))]
end
op('sscan') do
  r.sadd(k('ss'), (0...1500).to_a)
  same 1500, r.sscan_each(k('ss'), count: 50).to_a.uniq.size
end
op('zset') do
  r.zadd(k('z'), [[1, 'a'], [2.5, 'b'], [3, 'c']])
  same [[['a', 1.0], ['b', 2.5], ['c', 3.0]], 1], [r.zrange(k('z'), 0, -1, with_scores: true),
                                                   r.zrank(k('z'), 'b')]
end
op('zset_byscore') { same %w[b c], r.zrangebyscore(k('z'), '(1', '+inf') }
op('zset_incr') { same [3.5, 3.5], [r.zincrby(k('z'), 2.5, 'a'), r.zscore(k('z'), 'a')] }
op('hyperloglog') { same [true, 3], [r.pfadd(k('pf'), %w[a b c]), r.pfcount(k('pf'))] }
op('geo') do
  r.geoadd(k('geo'), 13.361389, 38.115556, 'Palermo', 15.087269, 37.502669, 'Catania')
  same ['166.2742', %w[Catania Palermo]],
       [r.geodist(k('geo'), 'Palermo', 'Catania', 'km'), r.georadius(k('geo'), 15, 37, 200, 'km', sort: 'asc')]
end
op('stream') do
  ids = (0...3).map { |i| r.xadd(k('x'), { 'a' => i }) }
  same ids.each_with_index.map { |id, i| [id, { 'a' => i.to_s }] }, r.xrange(k('x'))
  same({ k('x') => [[ids[2], { 'a' => '2' }]] }, r.xread(k('x'), ids[1]))
end
op('stream_group') do
  r.xgroup(:create, k('xg'), 'g', '0', mkstream: true)
  id = r.xadd(k('xg'), { 'f' => 'v' })
  same({ k('xg') => [[id, { 'f' => 'v' }]] }, r.xreadgroup('g', 'c', k('xg'), '>'))
  same 1, r.xack(k('xg'), 'g', id)
end
op('type_rename') do
  r.set(t('r1'), 'x')
  same ['string', 'OK', 'x'], [r.type(t('r1')), r.rename(t('r1'), t('r2')), r.get(t('r2'))]
end
op('sort') { r.rpush(k('so'), [3, 1, 2]); same %w[1 2 3], r.sort(k('so')) }
op('eval') do
  same [k('ev'), 'x', 7, nil], r.eval('return {KEYS[1], ARGV[1], 7, false}', keys: [k('ev')], argv: ['x'])
end
op('evalsha') do
  sha = one_server.script(:load, "return redis.call('incr', KEYS[1])")
  same [1, 2], [r.evalsha(sha, [k('es')]), r.evalsha(sha, [k('es')])]
end
op('noscript') do
  sha = one_server.script(:load, 'return {KEYS[1], ARGV[1], 42}')
  20.times { |i| same [k("s#{i}"), 'a', 42], r.evalsha(sha, [k("s#{i}")], ['a']) }
  fails('NOSCRIPT') { r.evalsha('f' * 40, [k('s')]) }
end
op('wrong_type') { r.set(k('wt'), 1); fails('WRONGTYPE') { r.lpush(k('wt'), 1) } }
op('unknown_command') { fails('unknown command') { one_server.call('NOSUCHCOMMAND', 'a') } }
op('pipeline') do
  same((0...200).flat_map { |i| ['OK', i.to_s] }, r.pipelined do |p|
    200.times { |i| p.set(m("p#{i}"), i); p.get(m("p#{i}")) }
  end)
end
op('pipeline_error') do
  fails('WRONGTYPE') do
    r.pipelined { |p| p.set(m('pe'), 'x'); p.lpush(m('pe'), 1); p.set(m('pe2'), 'y') }
  end
  same %w[x y], [r.get(m('pe')), r.get(m('pe2'))]
end
op('scan') do
  300.times { |i| r.set(k("scan:#{i}"), '') }
  want = (0...300).map { |i| k("scan:#{i}") }.sort
  same want, one_server.scan_each(match: k('scan:*'), count: 50).to_a.uniq.sort
  same want, one_server.keys(k('scan:*')).sort
end
op('dbsize') { same true, r.dbsize >= 300 }
op('info') { same true, one_server.info['redis_version'] > '6' }
op('client_name') do
  c = one_server
  c.call('CLIENT', 'SETNAME', 'kw-name')
  same 'kw-name', c.call('CLIENT', 'GETNAME')
end
op('publish') { heard(false) }
op('psubscribe') { heard(true) }
op('multi') do
  same ['OK', 8, '8'], r.multi { |x| x.set(t('tx'), 7); x.incr(t('tx')); x.get(t('tx')) }
  fails('not an integer') { r.multi { |x| x.set(t('tx'), 'x'); x.incr(t('tx')) } }
end
op('watch') do
  c = one_server
  c.set(t('w'), 1)
  got = c.watch(t('w')) do
    one_server.set(t('w'), 2)
    c.multi { |x| x.set(t('w'), 3) }
  end
  same [nil, '2'], [got, c.get(t('w'))]
  same(['OK'], c.watch(t('w')) { c.multi { |x| x.set(t('w'), 4) } })
end
op('blpop') do
  r.rpush(k('bl'), 'x')
  same [[k('bl'), 'x'], nil], [r.blpop(k('bl'), timeout: 5), r.blpop(k('bl'), timeout: 1)]
end
op('brpop_wait') do
  soon { |c| c.lpush(k('later'), 'job') }
  same [k('later'), 'job'], r.brpop(k('later'), timeout: 10)
end
op('bzpopmin') do
  r.zadd(k('bz'), [[2, 'a'], [1, 'b']])
  same [k('bz'), 'b', 1.0], r.bzpopmin(k('bz'), timeout: 5)
end
op('xread_block') do
  soon { |c| c.xadd(k('xb'), { 'a' => 1 }, id: '7-7') }
  same({ k('xb') => [['7-7', { 'a' => '1' }]] }, r.xread(k('xb'), '$', block: 10_000))
end
puts 'done'
