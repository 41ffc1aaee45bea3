import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import java.util.stream.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.*;
import org.apache.kafka.common.serialization.*;

/** The scenarios of the Python clients, for Kafka's own Java client. Usage: Scenarios BOOTSTRAP (SCENARIO | list). */
public class Scenarios {
    static final Duration DEADLINE = Duration.ofSeconds(60);
    static String bootstrap;

    interface Scenario { void run() throws Exception; }

    public static void main(String[] args) throws Exception {
        bootstrap = args[0];
        Map<String, Scenario> all = new LinkedHashMap<>();
        all.put("codecs", Scenarios::codecs);
        all.put("headers_and_nulls", Scenarios::headersAndNulls);
        all.put("large", Scenarios::large);
        all.put("too_large", Scenarios::tooLarge);
        all.put("offsets", Scenarios::offsets);
        all.put("acks", Scenarios::acks);
        all.put("group", Scenarios::group);
        all.put("group_cooperative", Scenarios::groupCooperative);
        all.put("auto_commit", Scenarios::autoCommit);
        all.put("static_member", Scenarios::staticMember);
        all.put("idempotent", Scenarios::idempotent);
        all.put("auto_create", Scenarios::autoCreate);
        all.put("admin", Scenarios::admin);
        all.put("remade_while_read", Scenarios::remadeWhileRead);
        all.put("remade_for_group", Scenarios::remadeForGroup);
        if (args[1].equals("list")) {
            all.keySet().forEach(System.out::println);
            return;
        }
        all.get(args[1]).run();
    }

    static String name(String prefix) { return prefix + "-" + UUID.randomUUID(); }
    static byte[] bytes(String s) { return s == null ? null : s.getBytes(); }
    static void check(boolean ok, Object what) { if (!ok) throw new AssertionError(String.valueOf(what)); }

    static Admin adminClient() { return Admin.create(Map.of("bootstrap.servers", bootstrap)); }

    static void create(String topic, int partitions, Map<String, String> config) throws Exception {
        try (Admin admin = adminClient()) {
            admin.createTopics(List.of(new NewTopic(topic, partitions, (short) 1).configs(config))).all().get();
        }
    }

    static KafkaProducer<byte[], byte[]> producer(Map<String, Object> more) {
        Map<String, Object> conf = new HashMap<>(Map.of("bootstrap.servers", bootstrap, "acks", "all", "linger.ms", 5));
        conf.putAll(more);
        return new KafkaProducer<>(conf, new ByteArraySerializer(), new ByteArraySerializer());
    }

    static KafkaConsumer<byte[], byte[]> consumer(Map<String, Object> more) {
        Map<String, Object> conf = new HashMap<>(Map.of(
            "bootstrap.servers", bootstrap, "auto.offset.reset", "earliest", "enable.auto.commit", false));
        conf.putAll(more);
        return new KafkaConsumer<>(conf, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    static void send(String topic, int from, int to, Map<String, Object> conf) throws Exception {
        try (var producer = producer(conf)) {
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            for (int i = from; i < to; i++) {
                sent.add(producer.send(new ProducerRecord<>(topic, bytes("k" + i), bytes("" + i))));
            }
            for (var future : sent) future.get();
        }
    }

    static List<ConsumerRecord<byte[], byte[]>> poll(KafkaConsumer<byte[], byte[]> consumer, int count) {
        List<ConsumerRecord<byte[], byte[]>> got = new ArrayList<>();
        long deadline = System.nanoTime() + DEADLINE.toNanos();
        while (got.size() < count) {
            check(System.nanoTime() < deadline, got.size() + " of " + count + " records");
            consumer.poll(Duration.ofMillis(200)).forEach(got::add);
        }
        return got;
    }

    static List<ConsumerRecord<byte[], byte[]>> read(String topic, int count, long from) {
        try (var consumer = consumer(Map.of())) {
            TopicPartition partition = new TopicPartition(topic, 0);
            consumer.assign(List.of(partition));
            consumer.seek(partition, from);
            return poll(consumer, count);
        }
    }

    static void checkEnd(String topic, long end) {
        try (var consumer = consumer(Map.of())) {
            TopicPartition partition = new TopicPartition(topic, 0);
            check(consumer.endOffsets(List.of(partition)).get(partition) == end, "more records than were sent");
        }
    }

    static String value(ConsumerRecord<byte[], byte[]> r) { return r.value() == null ? null : new String(r.value()); }

    static void codecs() throws Exception {
        for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            String topic = name(codec);
            create(topic, 1, Map.of());
            send(topic, 0, 1000, Map.of("compression.type", codec));
            var got = read(topic, 1000, 0);
            for (int i = 0; i < 1000; i++) {
                check(got.get(i).offset() == i && value(got.get(i)).equals("" + i), codec + " at " + i);
            }
            checkEnd(topic, 1000);
        }
    }

    static void headersAndNulls() throws Exception {
        String topic = name("nulls");
        create(topic, 1, Map.of());
        try (var producer = producer(Map.of())) {
            producer.send(new ProducerRecord<>(topic, null, bytes("no key"))).get();
            producer.send(new ProducerRecord<>(topic, bytes("no value"), null)).get();
            var record = new ProducerRecord<>(topic, bytes(""), bytes(""));
            record.headers().add("a", bytes("1")).add("a", bytes("2")).add("null", null);
            producer.send(record).get();
        }
        var got = read(topic, 3, 0);
        check(got.get(0).key() == null && value(got.get(0)).equals("no key"), "null key");
        check(got.get(1).value() == null, "null value");
        check(got.get(2).key().length == 0 && got.get(2).value().length == 0, "empty");
        var headers = got.get(2).headers().toArray();
        check(headers.length == 3 && new String(headers[1].value()).equals("2") && headers[2].value() == null, "headers");
    }

    static void large() throws Exception {
        String topic = name("large");
        create(topic, 1, Map.of());
        byte[] value = new byte[1_000_000];
        new Random(1).nextBytes(value);
        try (var producer = producer(Map.of())) {
            producer.send(new ProducerRecord<>(topic, value)).get();
        }
        check(Arrays.equals(read(topic, 1, 0).get(0).value(), value), "bytes differ");
    }

    static void tooLarge() throws Exception {
        String topic = name("toolarge");
        create(topic, 1, Map.of("max.message.bytes", "2000"));
        try (var producer = producer(Map.of())) {
            producer.send(new ProducerRecord<>(topic, new byte[5000])).get();
            check(false, "accepted");
        } catch (ExecutionException e) {
            check(e.getCause() instanceof RecordTooLargeException, e.getCause());
        }
    }

    static void offsets() throws Exception {
        String topic = name("offsets");
        create(topic, 1, Map.of("retention.ms", "-1")); // the records are years old
        long base = 1_700_000_000_000L;
        try (var producer = producer(Map.of("compression.type", "lz4"))) {
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            for (int i = 0; i < 100; i++) {
                sent.add(producer.send(new ProducerRecord<>(topic, null, base + 1000L * i, null, bytes("" + i))));
            }
            for (var future : sent) future.get();
        }
        TopicPartition partition = new TopicPartition(topic, 0);
        try (var consumer = consumer(Map.of()); Admin admin = adminClient()) {
            check(consumer.offsetsForTimes(Map.of(partition, base + 41_500)).get(partition).offset() == 42, "by time");
            check(consumer.offsetsForTimes(Map.of(partition, base + 1_000_000)).get(partition) == null, "after the end");
            check(consumer.endOffsets(List.of(partition)).get(partition) == 100, "end");
            check(consumer.beginningOffsets(List.of(partition)).get(partition) == 0, "beginning");
            var max = admin.listOffsets(Map.of(partition, OffsetSpec.maxTimestamp())).partitionResult(partition).get();
            check(max.offset() == 99 && max.timestamp() == base + 99_000, "max timestamp " + max);
        }
        var got = read(topic, 10, 57);
        check(got.get(0).offset() == 57 && got.get(0).timestamp() == base + 57_000, "seek");
    }

    static void acks() throws Exception {
        for (String acks : List.of("0", "1", "all")) {
            String topic = name("acks" + acks);
            create(topic, 1, Map.of());
            send(topic, 0, 1000, Map.of("acks", acks, "enable.idempotence", false));
            var got = read(topic, 1000, 0);
            for (int i = 0; i < 1000; i++) check(value(got.get(i)).equals("" + i), "acks=" + acks + " at " + i);
        }
    }

    /** Polls all of them in turn until it holds; what comes is added to `got`. */
    static void pollUntil(List<KafkaConsumer<byte[], byte[]>> members, List<Integer> got, Callable<Boolean> holds)
            throws Exception {
        long deadline = System.nanoTime() + DEADLINE.toNanos();
        while (!holds.call()) {
            check(System.nanoTime() < deadline, got.size() + " records, " + members.stream().map(KafkaConsumer::assignment).toList());
            for (var member : members) {
                member.poll(Duration.ofMillis(50)).forEach(r -> got.add(Integer.parseInt(value(r))));
            }
        }
    }

    static void checkNumbers(List<Integer> got, int from, int to, String what) {
        check(got.stream().sorted().toList().equals(IntStream.range(from, to).boxed().toList()), what + ": " + got);
    }

    static void group() throws Exception {
        String topic = name("group"), id = name("g");
        create(topic, 4, Map.of());
        send(topic, 0, 400, Map.of());
        List<Integer> got = new ArrayList<>();
        try (var a = consumer(Map.of("group.id", id)); Admin admin = adminClient()) {
            a.subscribe(List.of(topic));
            pollUntil(List.of(a), got, () -> got.size() >= 400);
            a.commitSync();
            try (var b = consumer(Map.of("group.id", id))) {
                b.subscribe(List.of(topic));
                pollUntil(List.of(a, b), got, () -> a.assignment().size() == 2 && b.assignment().size() == 2);
                var description = admin.describeConsumerGroups(List.of(id)).all().get().get(id);
                check(description.groupState() == GroupState.STABLE && description.members().size() == 2, description);
                check(admin.listGroups().all().get().stream().anyMatch(g -> g.groupId().equals(id)), "listed");
                send(topic, 400, 500, Map.of());
                pollUntil(List.of(a, b), got, () -> got.size() >= 500);
                a.commitSync();
                b.commitSync();
            }
            pollUntil(List.of(a), got, () -> a.assignment().size() == 4);
            checkNumbers(got, 0, 500, "not each record once");
        }
        send(topic, 500, 600, Map.of());
        List<Integer> later = new ArrayList<>();
        try (var c = consumer(Map.of("group.id", id)); Admin admin = adminClient()) {
            c.subscribe(List.of(topic));
            pollUntil(List.of(c), later, () -> later.size() >= 100);
            checkNumbers(later, 500, 600, "the committed offsets were not kept");
            c.commitSync();
            check(committed(admin, id) == 600, "offsets");
        }
    }

    static long committed(Admin admin, String group) throws Exception {
        return admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().values().stream()
            .mapToLong(OffsetAndMetadata::offset).sum();
    }

    /** A member that joins takes half of the partitions; the other half is never taken from the first, nor does it stop. */
    static void groupCooperative() throws Exception {
        String topic = name("cooperative"), id = name("g");
        create(topic, 4, Map.of());
        Map<String, Object> conf = Map.of(
            "group.id", id, "partition.assignment.strategy", CooperativeStickyAssignor.class.getName());
        Set<TopicPartition> revoked = new HashSet<>(), lost = new HashSet<>();
        List<Integer> got = new ArrayList<>();
        try (var a = consumer(conf)) {
            a.subscribe(List.of(topic), new ConsumerRebalanceListener() {
                @Override public void onPartitionsAssigned(Collection<TopicPartition> partitions) { }
                @Override public void onPartitionsRevoked(Collection<TopicPartition> partitions) { revoked.addAll(partitions); }
                @Override public void onPartitionsLost(Collection<TopicPartition> partitions) { lost.addAll(partitions); }
            });
            pollUntil(List.of(a), got, () -> a.assignment().size() == 4);
            try (var b = consumer(conf)) {
                b.subscribe(List.of(topic));
                pollUntil(List.of(a, b), got, () -> a.assignment().size() == 2 && b.assignment().size() == 2);
                check(revoked.equals(b.assignment()) && lost.isEmpty(), "revoked " + revoked + ", lost " + lost);
                send(topic, 0, 200, Map.of());
                pollUntil(List.of(a, b), got, () -> got.size() >= 200);
                a.commitSync();
                b.commitSync();
            }
            pollUntil(List.of(a), got, () -> a.assignment().size() == 4);
            send(topic, 200, 300, Map.of());
            pollUntil(List.of(a), got, () -> got.size() >= 300);
            checkNumbers(got, 0, 300, "not each record once");
        }
    }

    static void autoCommit() throws Exception {
        String topic = name("autocommit"), id = name("g");
        create(topic, 1, Map.of());
        for (int round = 0; round < 2; round++) {
            send(topic, round * 100, round * 100 + 100, Map.of());
            List<Integer> got = new ArrayList<>();
            try (var consumer = consumer(Map.of("group.id", id, "enable.auto.commit", true))) {
                consumer.subscribe(List.of(topic));
                pollUntil(List.of(consumer), got, () -> got.size() >= 100);
            }
            checkNumbers(got, round * 100, round * 100 + 100, "what close() committed was not kept");
        }
    }

    /** A static member that comes back goes on where it committed, in the same generation: nothing is dealt anew. */
    static void staticMember() throws Exception {
        String topic = name("static"), id = name("g");
        create(topic, 2, Map.of());
        Map<String, Object> conf = Map.of("group.id", id, "group.instance.id", "one", "session.timeout.ms", 30000);
        Set<Integer> generations = new HashSet<>();
        for (int round = 0; round < 2; round++) {
            send(topic, 10 * round, 10 * round + 10, Map.of());
            List<Integer> got = new ArrayList<>();
            try (var consumer = consumer(conf); Admin admin = adminClient()) {
                consumer.subscribe(List.of(topic));
                pollUntil(List.of(consumer), got, () -> got.size() >= 10);
                checkNumbers(got, 10 * round, 10 * round + 10, "not what came since the commit");
                consumer.commitSync();
                generations.add(consumer.groupMetadata().generationId());
                var members = admin.describeConsumerGroups(List.of(id)).all().get().get(id).members();
                check(members.size() == 1 && members.iterator().next().groupInstanceId().get().equals("one"), members);
            }
        }
        check(generations.size() == 1, "generations " + generations);
    }

    static void idempotent() throws Exception {
        String topic = name("idempotent");
        create(topic, 1, Map.of());
        send(topic, 0, 20000, Map.of("enable.idempotence", true, "batch.size", 500));
        var got = read(topic, 20000, 0);
        for (int i = 0; i < got.size(); i++) check(value(got.get(i)).equals("" + i), "at " + i);
        checkEnd(topic, 20000);
    }

    static void autoCreate() throws Exception {
        String topic = name("auto");
        send(topic, 0, 1, Map.of());
        check(value(read(topic, 1, 0).get(0)).equals("0"), "value");
    }

    static void admin() throws Exception {
        String topic = name("admin");
        create(topic, 3, Map.of("retention.ms", "123456"));
        try (Admin admin = adminClient()) {
            check(admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions().size() == 3, "partitions");
            ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
            Config config = admin.describeConfigs(List.of(resource)).all().get().get(resource);
            check(config.get("retention.ms").value().equals("123456"), config.get("retention.ms"));
            check(config.get("cleanup.policy").isDefault(), config.get("cleanup.policy"));
            check(admin.describeCluster().nodes().get().size() == 1, "nodes");
            try {
                create(topic, 1, Map.of());
                check(false, "created twice");
            } catch (ExecutionException e) {
                check(e.getCause() instanceof TopicExistsException, e.getCause());
            }
            admin.deleteTopics(List.of(topic)).all().get();
            create(topic, 1, Map.of());
        }
        try (var consumer = consumer(Map.of())) {
            TopicPartition partition = new TopicPartition(topic, 0);
            check(consumer.endOffsets(List.of(partition)).get(partition) == 0, "a topic made again does not start empty");
        }
    }

    /** A reader stands at offset 10 when its topic is made again with 5 records: it reads all five, and none of the old. */
    static void remadeWhileRead() throws Exception {
        String topic = name("remade");
        create(topic, 1, Map.of());
        send(topic, 0, 10, Map.of());
        try (var consumer = consumer(Map.of("metadata.max.age.ms", 500)); Admin admin = adminClient()) {
            consumer.assign(List.of(new TopicPartition(topic, 0)));
            consumer.seekToBeginning(consumer.assignment());
            poll(consumer, 10);
            admin.deleteTopics(List.of(topic)).all().get();
            create(topic, 1, Map.of());
            send(topic, 100, 105, Map.of());
            List<Integer> got = new ArrayList<>();
            pollUntil(List.of(consumer), got, () -> got.size() >= 5);
            checkNumbers(got, 100, 105, "not what the new topic holds");
        }
    }

    /** What a group committed for a topic ends with the topic: made again, it is read from its start. */
    static void remadeForGroup() throws Exception {
        String topic = name("remade"), id = name("g");
        create(topic, 1, Map.of());
        send(topic, 0, 10, Map.of());
        try (Admin admin = adminClient()) {
            try (var consumer = consumer(Map.of("group.id", id))) {
                consumer.subscribe(List.of(topic));
                poll(consumer, 10);
                consumer.commitSync();
            }
            check(committed(admin, id) == 10, "committed");
            admin.deleteTopics(List.of(topic)).all().get();
            long deadline = System.nanoTime() + DEADLINE.toNanos();
            while (committed(admin, id) != 0) check(System.nanoTime() < deadline, "the offsets outlive their topic");
            create(topic, 1, Map.of());
            send(topic, 100, 120, Map.of());
            List<Integer> got = new ArrayList<>();
            try (var consumer = consumer(Map.of("group.id", id))) {
                consumer.subscribe(List.of(topic));
                pollUntil(List.of(consumer), got, () -> got.size() >= 20);
            }
            checkNumbers(got, 100, 120, "not what the new topic holds");
        }
    }
}
