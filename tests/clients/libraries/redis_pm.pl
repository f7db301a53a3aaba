# Redis.pm: Redis->new with server, or with sentinels and service. redis_fast.pl is the same program
# on Redis::Fast, whose calls are the same.
use strict;
use warnings;
my $class;

BEGIN { $class = $ENV{KW_PERL_CLASS} // 'Redis'; eval "require $class" or die $@; }
$| = 1;
my ($mode, $prefix, $host, $port) = @ENV{qw(KW_MODE KW_PREFIX KW_HOST KW_PORT)};
my %later = map { $_ => 1 } split /,/, $ENV{KW_LATER};

sub one_server { $class->new(server => "$host:$port", read_timeout => 20, cnx_timeout => 20) }

sub dial {
    return one_server() if $mode ne 'sentinel';
    return $class->new(sentinels => ["$host:$port"], service => 'mymaster', read_timeout => 20);
}
sub k { "$prefix:$_[0]" }
sub t { "{$prefix}:$_[0]" }

sub text {
    my $v = shift;
    return 'nil' if !defined $v;
    return '[' . join(' ', map { text($_) } @$v) . ']' if ref $v eq 'ARRAY';
    return "$v";
}

sub same {
    my ($want, $got) = map { text($_) } @_;
    die "expected $want, got $got" if $want ne $got;
}

sub op {
    my ($name, $function) = @_;
    return print "later $name\n" if $later{$name};
    eval { $function->(); 1 } and return print "ok $name\n";
    my $why = $@;
    $why =~ s/\s+/ /g;
    print "FAIL $name: ", substr($why, 0, 300), "\n";
}

sub fails {
    my ($text, $function) = @_;
    my $got = eval { $function->() };
    die "expected an error with $text, got " . text($got) . " $@" if index($@, $text) < 0;
}

# A command a little later, from a process of its own.
sub soon {
    my @argv = @_;
    my $pid = fork // die;
    return $pid if $pid;
    select undef, undef, undef, 0.3;
    exec 'redis-cli', '-h', $host, '-p', $port, @argv;
}

sub heard {
    my ($pattern) = @_;
    my ($name, @got) = ($pattern ? k('p1') : k('ch'));
    my $sub = dial();
    my $note = sub { push @got, [ $_[1], $_[0] ] };
    $pattern ? $sub->psubscribe(k('p?'), $note) : $sub->subscribe($name, $note);
    my $pub = one_server();
    $pub->publish($name, $_) for 'one', "\0\r\n";
    my $end = time + 20;
    $sub->wait_for_messages(1) while @got < 2 && time < $end;
    same([ [ $name, 'one' ], [ $name, "\0\r\n" ] ], \@got);
    $pattern ? $sub->punsubscribe(k('p?'), $note) : $sub->unsubscribe($name, $note);
    same('PONG', $sub->ping);
}

sub follow { # a SCAN-like command to its end
    my ($function) = @_;
    my ($cursor, @all) = 0;
    do {
        my ($next, $page) = $function->($cursor);
        push @all, @$page;
        $cursor = $next;
    } while ($cursor ne '0');
    return @all;
}

print 'version ', $class->VERSION, "\n";
my $r = dial();
op 'ping', sub { same('PONG', $r->ping) };
op 'echo', sub { same('a b', $r->echo('a b')) };
op 'set_get', sub { same([ 'OK', 'v' ], [ $r->set(k('a'), 'v'), scalar $r->get(k('a')) ]) };
op 'set_options', sub {
    same([ 'OK', undef, 'OK' ], [ $r->set(k('o'), 1, 'NX', 'EX', 100),
        scalar $r->set(k('o'), 2, 'NX'), $r->set(k('o'), 3, 'XX') ]);
};
op 'empty_value', sub { $r->set(k('e'), ''); same([ '', 0 ], [ $r->get(k('e')), $r->strlen(k('e')) ]) };
op 'binary', sub {
    $r->set(k("b\0\r\n"), "\0\r\n\$-1\r\n\xff");
    same("\0\r\n\$-1\r\n\xff", $r->get(k("b\0\r\n")));
};
op 'large_value', sub {
    my $value = join('', map { chr } 0 .. 255) x 4096;
    $r->set(k('large'), $value);
    die 'it came back changed' if $r->get(k('large')) ne $value;
};
op 'missing_key', sub {
    same([ undef, undef, [] ], [ scalar $r->get(k('no')), scalar $r->lpop(k('no')),
        [ $r->hgetall(k('no')) ] ]);
};
op 'incr', sub {
    same([ 1, 42, 41, '41.5' ], [ $r->incr(k('n')), $r->incrby(k('n'), 41), $r->decr(k('n')),
        $r->incrbyfloat(k('n'), 0.5) ]);
};
op 'append_getrange', sub {
    same([ 5, 10, 'world' ], [ $r->append(k('ap'), 'hello'), $r->append(k('ap'), 'world'),
        $r->getrange(k('ap'), 5, -1) ]);
};
op 'mset_mget', sub {
    same('OK', $r->mset(map { (k("m$_"), $_) } 0 .. 29));
    same([ 0 .. 29, undef ], [ $r->mget(map { k("m$_") } 0 .. 30) ]);
};
op 'del_exists', sub {
    my @keys = map { k("m$_") } 0 .. 29;
    same([ 30, 30, 0 ], [ $r->exists(@keys), $r->del(@keys), $r->exists(@keys) ]);
};
op 'expire_ttl', sub {
    $r->set(k('ex'), 1);
    same([ 1, 1, 1, -1, -2 ], [ $r->expire(k('ex'), 100), $r->ttl(k('ex')) >= 98 ? 1 : 0,
        $r->persist(k('ex')), $r->ttl(k('ex')), $r->ttl(k('no')) ]);
};
op 'bits', sub {
    same([ 0, 1, 1, 7 ], [ $r->setbit(k('bit'), 7, 1), $r->getbit(k('bit'), 7),
        $r->bitcount(k('bit')), $r->bitpos(k('bit'), 1) ]);
};
op 'hash', sub {
    same([ 2, [ 'a', 1, 'b', '' ], [ 1, undef ], 1 ], [ $r->hset(k('h'), 'a', 1, 'b', ''),
        [ $r->hgetall(k('h')) ], [ $r->hmget(k('h'), 'a', 'z') ], $r->hdel(k('h'), 'b') ]);
};
op 'hash_incr', sub {
    same([ 11, '11.5' ], [ $r->hincrby(k('h'), 'a', 10), $r->hincrbyfloat(k('h'), 'a', 0.5) ]);
};
op 'hscan', sub {
    $r->hset(k('hs'), map { ("f$_", $_) } 0 .. 1499);
    my %got = follow(sub { $r->hscan(k('hs'), $_[0], 'COUNT', 50) });
    same(1500, scalar keys %got);
};
op 'list', sub {
    same([ 4, [qw(a b c d)], 'a', 'd', 2 ], [ $r->rpush(k('l'), qw(a b c d)),
        [ $r->lrange(k('l'), 0, -1) ], $r->lpop(k('l')), $r->rpop(k('l')), $r->llen(k('l')) ]);
};
op 'list_move', sub {
    same([ 2, 2, [2] ], [ $r->rpush(t('l1'), 1, 2), $r->rpoplpush(t('l1'), t('l2')),
        [ $r->lrange(t('l2'), 0, -1) ] ]);
};
op 'set', sub {
    same([ 3, [qw(a b c)], 1, 3 ], [ $r->sadd(k('s'), qw(a b c)), [ sort $r->smembers(k('s')) ],
        $r->sismember(k('s'), 'a'), $r->scard(k('s')) ]);
};
op 'set_inter', sub {
    $r->sadd(t('s1'), qw(a b));
    $r->sadd(t('s2'), qw(b c));
    same([ ['b'], 3 ], [ [ $r->sinter(t('s1'), t('s2')) ],
        $r->sunionstore(t('s3'), t('s1'), t('s2')) ]);
};
op 'sscan', sub {
    $r->sadd(k('ss'), 0 .. 1499);
    my %got = map { $_ => 1 } follow(sub { $r->sscan(k('ss'), $_[0], 'COUNT', 50) });
    same(1500, scalar keys %got);
};
op 'zset', sub {
    same([ 3, [ 'a', 1, 'b', 2.5, 'c', 3 ], 1 ], [ $r->zadd(k('z'), 1, 'a', 2.5, 'b', 3, 'c'),
        [ $r->zrange(k('z'), 0, -1, 'WITHSCORES') ], $r->zrank(k('z'), 'b') ]);
};
op 'zset_byscore', sub { same([qw(b c)], [ $r->zrangebyscore(k('z'), '(1', '+inf') ]) };
op 'zset_incr', sub { same([ 3.5, 3.5 ], [ $r->zincrby(k('z'), 2.5, 'a'), $r->zscore(k('z'), 'a') ]) };
op 'hyperloglog', sub { same([ 1, 3 ], [ $r->pfadd(k('pf'), qw(a b c)), $r->pfcount(k('pf')) ]) };
op 'geo', sub {
    same([ 2, '166.2742', [qw(C P)] ], [
        $r->geoadd(k('g'), 13.361389, 38.115556, 'P', 15.087269, 37.502669, 'C'),
        $r->geodist(k('g'), 'P', 'C', 'km'), [ $r->georadius(k('g'), 15, 37, 200, 'km', 'ASC') ] ]);
};
op 'stream', sub {
    $r->xadd(k('x'), "1-$_", 'a', $_) for 1, 2;
    same([ [ '1-1', [ 'a', 1 ] ], [ '1-2', [ 'a', 2 ] ] ], [ $r->xrange(k('x'), '-', '+') ]);
    same([ [ k('x'), [ [ '1-2', [ 'a', 2 ] ] ] ] ], [ $r->xread('STREAMS', k('x'), '1-1') ]);
};
op 'stream_group', sub {
    $r->xgroup('CREATE', k('xg'), 'g', 0, 'MKSTREAM');
    $r->xadd(k('xg'), '1-1', 'f', 'v');
    same([ [ k('xg'), [ [ '1-1', [ 'f', 'v' ] ] ] ] ],
        [ $r->xreadgroup('GROUP', 'g', 'c', 'STREAMS', k('xg'), '>') ]);
    same(1, $r->xack(k('xg'), 'g', '1-1'));
};
op 'type_rename', sub {
    $r->set(t('r1'), 'x');
    same([ 'string', 'OK', 'x' ], [ $r->type(t('r1')), $r->rename(t('r1'), t('r2')), $r->get(t('r2')) ]);
};
op 'sort', sub { $r->rpush(k('so'), 3, 1, 2); same([ 1, 2, 3 ], [ $r->sort(k('so')) ]) };
op 'eval', sub {
    same([ k('ev'), 'x', 7, undef ],
        [ $r->eval('return {KEYS[1], ARGV[1], 7, false}', 1, k('ev'), 'x') ]);
};
op 'evalsha', sub {
    my $sha = $r->script_load(q{return redis.call('incr', KEYS[1])});
    same([ 1, 2 ], [ $r->evalsha($sha, 1, k('es')), $r->evalsha($sha, 1, k('es')) ]);
};
op 'noscript', sub {
    my $sha = $r->script_load('return {KEYS[1], ARGV[1], 42}');
    same([ k("s$_"), 'a', 42 ], [ $r->evalsha($sha, 1, k("s$_"), 'a') ]) for 0 .. 19;
    fails('NOSCRIPT', sub { $r->evalsha('f' x 40, 1, k('s')) });
};
op 'wrong_type', sub { $r->set(k('wt'), 1); fails('WRONGTYPE', sub { $r->lpush(k('wt'), 1) }) };
op 'unknown_command', sub { fails('unknown command', sub { $r->nosuchcommand('a') }) };
op 'pipeline', sub {
    my @got;
    for my $i (0 .. 499) {
        $r->set(k("p$i"), $i, sub { push @got, $_[0] });
        $r->get(k("p$i"), sub { push @got, $_[0] });
    }
    $r->wait_all_responses;
    same([ map { ('OK', $_) } 0 .. 499 ], \@got);
};
op 'pipeline_error', sub {
    my @got;
    $r->set(k('pe'), 'x');
    my $note = sub { push @got, $_[0] // substr $_[1], 0, 9 };
    $r->get(k('pe'), $note);
    $r->lpush(k('pe'), 1, $note);
    $r->get(k('pe'), $note);
    $r->wait_all_responses;
    same([ 'x', 'WRONGTYPE', 'x' ], \@got);
};
op 'scan', sub {
    $r->set(k("scan:$_"), '') for 0 .. 299;
    my %got = map { $_ => 1 } follow(sub { $r->scan($_[0], 'MATCH', k('scan:*'), 'COUNT', 50) });
    same([ 300, 300 ], [ scalar keys %got, scalar(my @keys = $r->keys(k('scan:*'))) ]);
};
op 'dbsize', sub { die 'too few' if $r->dbsize < 300 };
op 'info', sub { die 'no version' if $r->info->{redis_version} lt '6' };
op 'client_name', sub { same([ 'OK', 'kw-name' ], [ $r->client_setname('kw-name'), $r->client_getname ]) };
op 'publish', sub { heard(0) };
op 'psubscribe', sub { heard(1) };
op 'multi', sub {
    $r->multi;
    $r->set(t('tx'), 7);
    $r->incr(t('tx'));
    same([ 'OK', 8 ], [ $r->exec ]);
    $r->multi;
    $r->set(t('tx'), 9);
    $r->discard;
    same(8, $r->get(t('tx')));
};
op 'watch', sub {
    my $other = one_server();
    $r->set(t('w'), 1);
    $r->watch(t('w'));
    $other->set(t('w'), 2);
    $r->multi;
    $r->set(t('w'), 3);
    my @none = $r->exec;
    same(2, $r->get(t('w')));
    $r->watch(t('w'));
    $r->multi;
    $r->set(t('w'), 4);
    same(['OK'], [ $r->exec ]);
};
op 'blpop', sub {
    $r->rpush(k('bl'), 'x');
    same([ k('bl'), 'x' ], [ $r->blpop(k('bl'), 5) ]);
    my @none = $r->blpop(k('bl'), 1);
    die 'something came' if grep { defined } @none;
};
op 'brpop_wait', sub {
    my $pid = soon('LPUSH', k('later'), 'job');
    same([ k('later'), 'job' ], [ $r->brpop(k('later'), 10) ]);
    waitpid $pid, 0;
};
op 'bzpopmin', sub {
    $r->zadd(k('bz'), 2, 'a', 1, 'b');
    same([ k('bz'), 'b', 1 ], [ $r->bzpopmin(k('bz'), 5) ]);
};
op 'xread_block', sub {
    my $pid = soon('XADD', k('xb'), '7-7', 'a', 1);
    same([ [ k('xb'), [ [ '7-7', [ 'a', 1 ] ] ] ] ],
        [ $r->xread('BLOCK', 10000, 'STREAMS', k('xb'), '$') ]);
    waitpid $pid, 0;
};
print "done\n";
