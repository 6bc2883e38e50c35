import Glibc
import JSONValues
import TestSupport
import Testing

@testable import Training

@Suite struct EventFileTests {
  /// Byte for byte what TensorBoard's own writer makes of the same events: `Tests/Golden/make_events.py`.
  @Test func bytesAreTensorBoards() throws {
    let golden = try #require(TemporaryFolder.bytes(of: goldenPath("events.tfevents")))
    let events = [
      EventFile.version(time: 1_700_000_000.25), EventFile.start(time: 1_700_000_000.25, step: 2),
      EventFile.scalars(
        [(name: "train/loss", value: 2.7182818), (name: "train/learning_rate", value: 2e-4)], time: 1_700_000_001.5,
        step: 3),
      EventFile.scalars([(name: "eval/loss", value: .nan)], time: 1_700_000_002.5, step: 300),
      EventFile.text(
        "answers/1", "Grüße 🙂\n\n" + String(repeating: "long ", count: 60), time: 1_700_000_003, step: 123_456_789),
    ]
    #expect(events.flatMap(EventFile.record) == golden)
  }

  @Test func checksums() {
    #expect(CRC32C.checksum("123456789".utf8) == 0xE306_9283)
    #expect(CRC32C.checksum([UInt8](repeating: 0, count: 32)) == 0x8A91_36AA)
    #expect(CRC32C.checksum([]) == 0)
  }

  @Test func aFolderThatCannotBeWrittenIsNoEventFile() {
    #expect(EventFile(folder: "/proc/none", time: 1, step: 0) == nil)
  }
}

@Suite struct RunRecorderTests {
  let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  private func append(_ text: String, _ path: String) throws {
    let file = try #require(fopen(path, "a"))
    fputs(text, file)
    fclose(file)
  }

  @Test func linesAreReadAsTheyCome() throws {
    let path = "\(folder.path)/metrics.jsonl"
    var reader = MetricsReader(path: path)
    #expect(reader.newPoints().isEmpty)
    try append("{\"step\": 0, \"eval_loss\": 3.5}\n{\"step\": 1, \"lo", path)
    #expect(reader.newPoints().map(\.step) == [0])
    try append(
      "ss\": null, \"skipped\": true}\nnonsense\n{\"loss\": 1}\n{\"step\": 2, \"loss\": 2.5, \"samples\": "
        + "[{\"prompt\": \"a\", \"answer\": \"b\"}]}\n", path)
    let points = reader.newPoints()
    #expect(points.map(\.step) == [1, 2])
    #expect(points[0].loss == nil && points[0].isSkipped && points[1].loss == 2.5)
    #expect(points[1].samples == [.init(prompt: "a", answer: "b")])
    #expect(reader.newPoints().isEmpty)
  }

  @Test func smoothingHasNoBiasTowardsItsStart() {
    var smoothed = SmoothedSeries(keep: 0.5)
    #expect(smoothed.value == nil)
    #expect(smoothed.add(4) == 4)
    #expect(abs(smoothed.add(1) - 2) < 1e-12)
    #expect(abs(smoothed.add(.nan) - 2) < 1e-12)
    // (0.25·4 + 0.5·1 + 1·7) / 1.75 of the halves
    #expect(abs(smoothed.add(7) - 8.5 / 1.75) < 1e-12)
  }

  private func recorder(_ run: RunFolder, stepsDone: Int) -> RunRecorder {
    RunRecorder(
      run, remarks: ["a model & more"], totalSteps: 4, stepsDone: stepsDone,
      data: [
        "files": ["a.jsonl: text"], "counts": ["samples": 3, "tokens": 90], "warnings": ["1 sample seen before"],
      ],
      settings: [(name: "learning-rate", value: "0.0002"), (name: "output", value: "<script>alert(1)</script>")],
      writesEvents: true)
  }

  @Test func aRunLeavesEventsDataAndReport() throws {
    let path = "\(folder.path)/run"
    let run = try RunFolder.create(path)
    let first = recorder(run, stepsDone: 0)
    try append(
      "{\"step\": 0, \"eval_loss\": 3}\n{\"step\": 1, \"loss\": 2.5, \"learning_rate\": 1e-4, \"grad_norm\": 0.5, "
        + "\"tokens_per_second\": 100, \"tokens\": 30, \"memory_bytes\": 2147483648}\n", run.metricsPath)
    first.update()
    let early = try #require(TemporaryFolder.text(of: "\(path)/report.html"))
    #expect(early.contains("1 of 4"))
    try append(
      "{\"step\": 2, \"loss\": 2.25, \"eval_loss\": 2.5, \"samples\": [{\"prompt\": \"Who?\", \"answer\": "
        + "\"<b>I</b> & \\u0007 you\"}]}\n", run.metricsPath)
    first.finish()
    // A process that goes on, after one that went further than its last checkpoint.
    let second = recorder(run, stepsDone: 2)
    try append("{\"step\": 3, \"loss\": 2, \"skipped\": true}\n", run.metricsPath)
    second.finish()
    let html = try #require(TemporaryFolder.text(of: "\(path)/report.html"))
    for text in [
      "3 of 4", "Learning rate", "Gradient norm", "Tokens per second", "Memory in GiB", "2 GiB", "held out",
      "a model &amp; more",
      "&lt;script&gt;alert(1)&lt;/script&gt;", "&lt;b&gt;I&lt;/b&gt; &amp; \u{FFFD} you", "1 sample seen before",
      "Who?",
      "prefers-color-scheme: dark", "steps skipped",
    ] { #expect(html.contains(text), "\(text)") }
    // It needs nothing but itself, and runs nothing.
    for text in ["<script", "http:", "https:", "src=", "@import", "url("] { #expect(!html.contains(text), "\(text)") }
    #expect(Folders.names(in: "\(path)/tensorboard").count == 1 || Folders.names(in: "\(path)/tensorboard").count == 2)
    let data = try JSONValue.parse(try #require(TemporaryFolder.text(of: "\(path)/data.json")))
    #expect(data["counts"]?["samples"] == 3)
  }

  @Test func everyTagIsClosed() throws {
    let points = try (1...3000).compactMap {
      MetricsLine(
        try JSONValue.parse(
          "{\"step\": \($0), \"loss\": \($0 == 7 ? "null" : "\(3.0 / Double($0))"), \"grad_norm\": \(1.0 / Double($0)), "
            + "\"eval_loss\": \($0 % 100)}"))
    }
    let report = RunReport(name: "r", remarks: [], totalSteps: 3000, points: points, data: nil, settings: [])
    let html = report.html
    var open: [Substring] = []
    let void: Set<Substring> = ["meta", "line", "path", "rect", "!DOCTYPE"]
    for part in html.split(separator: "<").dropFirst() {
      let tag = part.prefix { $0 != ">" }
      let name = tag.prefix { !$0.isWhitespace && $0 != "/" }
      if tag.hasPrefix("/") {
        #expect(open.popLast() == tag.dropFirst())
      } else if !tag.hasSuffix("/"), !void.contains(name) {
        open.append(name)
      }
    }
    #expect(open.isEmpty)
    #expect(!html.contains("nan") && !html.contains("inf\""))
    // Thousands of steps are drawn as the extremes of as many stretches as a line has room for.
    #expect(html.utf8.count < 130_000)
    #expect(
      RunReport(name: "r", remarks: [], totalSteps: 0, points: [], data: nil, settings: []).html.contains("0 of 0"))
  }
}

@Suite struct LineChartTests {
  @Test func ticksAreRound() {
    #expect(LineChart.ticks(0, 10, 5) == [0, 2, 4, 6, 8, 10])
    #expect(LineChart.ticks(1.13, 1.19, 5).map { ($0 * 1000).rounded() } == [1140, 1160, 1180])
    #expect(LineChart.ticks(-1, 1, 4) == [-1, -0.5, 0, 0.5, 1])
    #expect(LineChart.ticks(3, 3, 5) == [3])
    #expect(LineChart.ticks(0, .infinity, 5).count == 1)
    // Neighbours have names of their own.
    #expect(LineChart.names(ofTicks: [1.1, 1.105, 1.11]) == ["1.1", "1.105", "1.11"])
    #expect(LineChart.names(ofTicks: [1.1025, 1.105, 1.1075]) == ["1.1025", "1.105", "1.1075"])
    #expect(LineChart.names(ofTicks: [0, 5000, 10_000]) == ["0", "5000", "10k"])
    #expect(LineChart.names(ofTicks: [123_456.25, 123_456.5]) == ["123k", "123k"])
  }

  @Test func numbersAreShort() {
    let shown = [0, 2.71828, 0.0123456, 2e-4, 1234.5, 12345, 1.5e6, 2e9, -0.5, .nan].map(LineChart.number)
    #expect(shown == ["0", "2.72", "0.0123", "2e-4", "1235", "12.3k", "1.5M", "2G", "-0.5", "–"])
  }

  @Test func thinningKeepsExtremes() {
    var points: [(x: Double, y: Double)] = (0..<10_000).map { (x: Double($0), y: sin(Double($0))) }
    points[4321].y = 99
    points[77].y = -99
    let thinned = LineChart.thinned(points, to: 200)
    #expect(thinned.count <= 200 && thinned.contains { $0.y == 99 } && thinned.contains { $0.y == -99 })
    #expect(zip(thinned, thinned.dropFirst()).allSatisfy { $0.x < $1.x })
    #expect(LineChart.thinned(Array(points[..<10]), to: 200).count == 10)
  }

  @Test func nothingToDrawIsNoChart() {
    #expect(LineChart(title: "t", series: [.init(name: "a", style: "c0", points: [(1, .nan)])]).figure.isEmpty)
    #expect(LineChart(title: "t", series: []).figure.isEmpty)
    // One point, equal points, huge and tiny ones.
    for points in [[(1.0, 2.0)], [(1, 5), (2, 5)], [(0, 1e300), (1, -1e300)], [(0, 1e-300), (1, 0)]] {
      let svg = LineChart(title: "t", series: [.init(name: "a", style: "c0", points: points)]).svg
      #expect(!svg.contains("nan") && !svg.contains("inf") && svg.contains("<path"))
      _ = LineChart(title: "t", series: [.init(name: "a", style: "c0", points: points)], isLogarithmic: true).svg
    }
  }
}

@Suite struct RunComparisonTests {
  private func run(_ name: String, _ rate: String, _ losses: [Double]) throws -> RunComparison.Run {
    let points = try losses.enumerated().compactMap { index, loss in
      MetricsLine(
        try JSONValue.parse(
          "{\"step\": \(index + 1), \"loss\": \(loss), \"eval_loss\": \(loss / 2), \"tokens_per_second\": \(index)}"))
    }
    return RunComparison.Run(
      name: name, points: points, settings: [("learning-rate", rate), ("seed", "1"), ("output", name)], modified: 0)
  }

  @Test func whatSetsRunsApart() throws {
    let comparison = RunComparison([try run("a", "1e-4", [4, 2, 3]), try run("b<", "2e-4", [4, 3])])
    #expect(comparison.differences.map(\.name) == ["learning-rate"])
    #expect(comparison.differences[0].values == ["1e-4", "2e-4"])
    #expect(comparison.runs[0].steps == 3 && comparison.runs[0].bestEvalLoss == 1)
    #expect(comparison.runs[0].tokensPerSecond == 1)
    let html = comparison.html
    #expect(html.contains("What sets them apart") && html.contains("b&lt;") && html.contains("Held-out loss"))
    #expect(!html.contains("<script") && !html.contains("seed"))
  }
}
