from test_stream import change, vga, classifier, labels, LABELS, RATE, what_was_sent
import time
def test_gap(ros, labels, vga):
    names = tuple(f'object number {number}' for number in range(1000))
    change(ros, names)
    for k in range(10):
        change(ros, LABELS)
        first = len(labels.messages)
        publisher = ros.publish_frames(vga, count=120, rate=RATE)
        labels.wait_for(lambda _: len(labels.messages) > first + RATE)
        t0 = time.time()
        reply = change(ros, names if k % 2 == 0 else LABELS[:3])
        t1 = time.time()
        sent, late = what_was_sent(publisher)
        times = labels.times[first:]
        ms = labels.messages[first:]
        stamps = [m.header.stamp.sec + m.header.stamp.nanosec*1e-9 for m in ms]
        print(f'\nZZ {k}: reply {reply.seconds:.3f}, call {t0-times[0]:.3f}..{t1-times[0]:.3f}; answered {len(ms)} late {late*1000:.0f} ms')
        for i in range(len(times)-1):
            if times[i+1]-times[i] > 0.06:
                print(f'ZZ   gap at {times[i]-times[0]:.3f}: {1000*(times[i+1]-times[i]):.0f} ms; stamps gap {1000*(stamps[i+1]-stamps[i]):.0f}; latency after {1000*(times[i+1]-stamps[i+1]):.0f}')
