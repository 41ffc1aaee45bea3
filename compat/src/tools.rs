//! kcat, and Kafka's own command-line tools as an operator types them.

use crate::clients::{Call, command, java_command};
use crate::table::Table;

fn expect(output: &str, wanted: &str) -> Result<String, String> {
    if output.contains(wanted) { Ok(String::new()) } else { Err(format!("no `{wanted}` in:\n{output}")) }
}

/// A name that no other run uses.
fn fresh(prefix: &str) -> String {
    use std::hash::{BuildHasher, RandomState};
    format!("{prefix}-{:016x}", RandomState::new().hash_one(prefix))
}

/// kcat: `-L`, produce, consume, a group.
pub fn kcat(table: &mut Table, bootstrap: &str) {
    let kcat = || command("kcat").arg_str("-b").arg_str(bootstrap);
    let topic = &fresh("kcat");
    let lines: Vec<String> = (0..1000).map(|i| format!("k{i}:line {i}")).collect();
    table.case("kcat", "produce (-P)", || {
        let input = lines.join("\n") + "\n";
        kcat().args_str("-P -K: -z lz4 -t").arg_str(topic).output_of(input.as_bytes()).map(|_| String::new())
    });
    table.case("kcat", "consume (-C)", || {
        let got = kcat().args_str("-C -K: -o beginning -e -q -t").arg_str(topic).output()?;
        if got.lines().eq(&lines) { Ok(String::new()) } else { Err(format!("{} lines differ", got.lines().count())) }
    });
    table.case("kcat", "metadata (-L)", || {
        expect(&kcat().arg_str("-L").output()?, &format!("topic \"{topic}\" with 1 partitions"))
    });
    table.case("kcat", "group (-G)", || {
        let group = fresh("kcat-group");
        let read = |count: &str| {
            kcat()
                .args_str("-X auto.offset.reset=earliest -c")
                .arg_str(count)
                .args_str("-K: -q -G")
                .arg_str(&group)
                .arg_str(topic)
                .output()
        };
        let (first, second) = (read("600")?, read("400")?);
        let got = first.lines().chain(second.lines());
        if got.eq(&lines) { Ok(String::new()) } else { Err("the group did not go on where it stopped".to_owned()) }
    });
}

/// The tools of the Kafka distribution, by their classes.
pub fn kafka(table: &mut Table, bootstrap: &str, class_path: &str) {
    let tool = |class: &str| -> Call {
        java_command(class_path)
            .arg_str(&format!("org.apache.kafka.tools.{class}"))
            .arg_str("--bootstrap-server")
            .arg_str(bootstrap)
    };
    let topic = &fresh("tools");
    table.case("kafka-topics", "--create", || {
        let made = tool("TopicCommand")
            .args_str("--create --partitions 3 --replication-factor 1 --config retention.ms=86400000 --topic");
        expect(&made.arg_str(topic).output()?, &format!("Created topic {topic}."))
    });
    table.case("kafka-topics", "--list", || expect(&tool("TopicCommand").arg_str("--list").output()?, topic));
    table.case("kafka-topics", "--describe", || {
        let told = tool("TopicCommand").args_str("--describe --topic").arg_str(topic).output()?;
        expect(&told, "PartitionCount: 3\tReplicationFactor: 1")?;
        expect(&told, "retention.ms=86400000")
    });
    table.case("kafka-topics", "--create twice is refused", || {
        match tool("TopicCommand").args_str("--create --topic").arg_str(topic).output() {
            Ok(_) => Err("exit code 0".to_owned()),
            Err(output) => expect(&output, &format!("Topic '{topic}' already exists.")),
        }
    });
    let lines: Vec<String> = (0..500).map(|i| format!("key{i}\tvalue {i}")).collect();
    table.case("kafka-console-producer", "keys from a file", || {
        let produce = tool("ConsoleProducer").args_str("--reader-property parse.key=true --topic").arg_str(topic);
        produce.output_of((lines.join("\n") + "\n").as_bytes()).map(|_| String::new())
    });
    let group = &fresh("console");
    table.case("kafka-console-consumer", "a group, from the beginning", || {
        let consume = tool("consumer.ConsoleConsumer")
            .args_str(
                "--from-beginning --formatter-property print.key=true --max-messages 500 --timeout-ms 30000 --group",
            )
            .arg_str(group)
            .arg_str("--topic")
            .arg_str(topic);
        let got = consume.output()?;
        let (mut got, mut wanted): (Vec<&str>, Vec<&str>) =
            (got.lines().collect(), lines.iter().map(String::as_str).collect());
        got.sort_unstable();
        wanted.sort_unstable();
        if got == wanted { Ok(String::new()) } else { Err(format!("{} lines, not the ones produced", got.len())) }
    });
    table.case("kafka-consumer-groups", "--describe", || {
        let told = java_command(class_path)
            .arg_str("org.apache.kafka.tools.consumer.group.ConsumerGroupCommand")
            .arg_str("--bootstrap-server")
            .arg_str(bootstrap)
            .args_str("--describe --group")
            .arg_str(group)
            .output()?;
        let committed: i64 = told
            .lines()
            .filter(|line| line.contains(topic.as_str()))
            .filter_map(|line| line.split_whitespace().nth(3)?.parse::<i64>().ok())
            .sum();
        if committed == 500 { Ok(String::new()) } else { Err(format!("{committed} of 500 committed:\n{told}")) }
    });
    table.case("kafka-producer-perf-test", "100,000 records", || {
        let run = java_command(class_path)
            .arg_str("org.apache.kafka.tools.ProducerPerformance")
            .args_str("--num-records 100000 --record-size 1024 --throughput -1 --topic")
            .arg_str(topic)
            .arg_str("--bootstrap-server")
            .arg_str(bootstrap)
            .output()?;
        expect(&run, "100000 records sent")
    });
    table.case("kafka-get-offsets", "latest", || {
        let told = tool("GetOffsetShell").arg_str("--topic").arg_str(topic).output()?;
        let sum: i64 = told.lines().filter_map(|line| line.rsplit(':').next()?.parse::<i64>().ok()).sum();
        if sum == 100_500 { Ok(String::new()) } else { Err(told) }
    });
    table.case("kafka-broker-api-versions", "lists", || {
        expect(&tool("BrokerApiVersionsCommand").output()?, "Produce(0): 0 to 13")
    });
    table.case("kafka-topics", "--delete", || {
        tool("TopicCommand").args_str("--delete --topic").arg_str(topic).output()?;
        let left = tool("TopicCommand").arg_str("--list").output()?;
        if left.contains(topic.as_str()) { Err(left) } else { Ok(String::new()) }
    });
}
