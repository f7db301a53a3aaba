# Redis::Fast has the calls of Redis.pm: the same program, loaded with another class.
use strict;
use warnings;
use File::Basename 'dirname';
BEGIN { $ENV{KW_PERL_CLASS} = 'Redis::Fast' }
my $program = dirname(__FILE__) . '/redis_pm.pl';
do $program or do { die $@ || $! if $@ || !-e $program };
