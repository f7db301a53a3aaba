# Sidekiq: jobs through a real sidekiq process. The same file is what that process loads and the
# program that starts it.
require 'sidekiq'
require 'sidekiq/api'
$stdout.sync = true
URL = "redis://#{ENV['KW_HOST']}:#{ENV['KW_PORT']}/0"
Sidekiq.configure_server do |c|
  c.redis = { url: URL, timeout: 20 }
  c.options[:poll_interval_average] = 0.5
end
Sidekiq.configure_client { |c| c.redis = { url: URL, timeout: 20 } }

class Store
  include Sidekiq::Worker
  def perform(key, value)
    Sidekiq.redis { |r| r.set(key, value) }
  end
end

class Fail
  include Sidekiq::Worker
  sidekiq_options retry: 5
  sidekiq_retry_in { 600 }
  def perform
    raise 'on purpose'
  end
end

def op(name)
  yield
  puts "ok #{name}"
rescue StandardError => e
  puts "FAIL #{name}: #{e.class}: #{e.message.tr("\n", ' ')[0, 300]}"
end

def wait_for(what)
  limit = Process.clock_gettime(Process::CLOCK_MONOTONIC) + 40
  until yield
    raise "not in time: #{what}" if Process.clock_gettime(Process::CLOCK_MONOTONIC) > limit
    sleep 0.1
  end
end

def stored(*keys)
  wait_for("#{keys.size} results") { Sidekiq.redis { |r| r.mget(*keys) }.all? }
end

if $PROGRAM_NAME == __FILE__
  puts "version #{Sidekiq::VERSION}"
  Sidekiq.logger.level = Logger::ERROR
  pid = spawn('sidekiq', '-r', File.expand_path(__FILE__), '-c', '3', '-q', 'default',
              in: '/dev/null', out: '/dev/null', err: '/dev/null')
  begin
    op('perform_async') do
      20.times { |i| Store.perform_async("kw-sidekiq:#{i}", i) }
      stored(*(0...20).map { |i| "kw-sidekiq:#{i}" })
    end
    op('push_bulk') do
      Sidekiq::Client.push_bulk('class' => Store, 'args' => (0...50).map { |i| ["kw-bulk:#{i}", i] })
      stored(*(0...50).map { |i| "kw-bulk:#{i}" })
    end
    op('perform_in') do
      Store.perform_in(1, 'kw-sidekiq:later', 1)
      raise 'it is not scheduled' if Sidekiq::ScheduledSet.new.size != 1
      stored('kw-sidekiq:later')
    end
    op('retry_set') do
      Fail.perform_async
      wait_for('the retry') { Sidekiq::RetrySet.new.size == 1 }
      raise 'no error noted' unless Sidekiq::RetrySet.new.first['error_message'] == 'on purpose'
    end
    op('stats') do
      wait_for('the counts') { Sidekiq::Stats.new.processed >= 72 && Sidekiq::Stats.new.failed == 1 }
    end
    op('process_set') { wait_for('one process') { Sidekiq::ProcessSet.new.size == 1 } }
  ensure
    Process.kill('TERM', pid)
    Process.wait(pid)
  end
  puts 'done'
end
