import CommandLineParsing
import Glibc
import JSONValues
import Swiftlet
import Training

extension TuneCommand {
  /// `--preview`: the first samples and nothing else.
  static func showPreview(_ configuration: TrainingConfiguration, count: Int, asJSON: Bool) throws {
    let preview = try readingInput {
      try DataPreview(
        modelAt: ModelOptions.path(configuration.model), configuration: configuration, count: count)
    }
    ModelOptions.announce(preview.examination)
    DataSummary(preview.data, preview.description, configuration).announce()
    let samples = try (0..<min(count, preview.data.count)).map {
      try preview.data.preview(ofExample: $0, tokenizer: preview.tokenizer)
    }
    if asJSON {
      let values = samples.map { JSONValue.array($0.map(value)) }
      return try StandardOutput.write(JSONValue.object(["samples": .array(values)]).serialized() + "\n")
    }
    let isColoured = SampleText.isColoured(isTerminal: StandardOutput.isTerminal)
    for (index, documents) in samples.enumerated() {
      try StandardOutput.write(SampleText.text(documents, number: index + 1, isColoured: isColoured))
    }
  }

  private static func value(_ document: SamplePreview) -> JSONValue {
    [
      "ids": .array(document.ids.map { .integer(Int($0)) }),
      "mask": .array(document.isTrained.map { .integer($0 ? 1 : 0) }),
      "text": .string(document.runs.map(\.text).joined()),
    ]
  }
}

/// What is shown of each step of a run.
enum ProgressMode: String, CaseIterable, CommandChoice {
  /// A line on standard error.
  case line
  /// A JSON object on standard output.
  case json
  /// Nothing.
  case quiet
}

extension TuneCommand {
  /// A step as `metrics.jsonl` has it, with the whole run's steps and the time left.
  static func json(_ progress: TrainingProgress) -> String {
    var object = MetricsLine(progress).json.object ?? [:]
    object["total_steps"] = .integer(progress.totalSteps)
    object["eta_seconds"] = progress.eta.isFinite ? .number(progress.eta) : .null
    return JSONValue.object(object).serialized() + "\n"
  }
}

/// What is said of the data before training.
struct DataSummary {
  private let data: TokenizedDataset
  private let formats: String
  private let configuration: TrainingConfiguration

  init(_ data: TokenizedDataset, _ formats: String, _ configuration: TrainingConfiguration) {
    self.data = data
    self.formats = formats
    self.configuration = configuration
  }

  /// Writes formats, counts, lengths and warnings to standard error.
  func announce() {
    for text in formats.split(separator: "\n") { StandardError.write("swiftlet: data \(text)\n") }
    StandardError.write("swiftlet: data \(data.description)\n")
    let lengths = LengthStatistics(data, batchSize: configuration.batchSize, seed: configuration.seed)
    var text = "swiftlet: data lengths \(lengths.shortest) to \(lengths.longest) tokens, median \(lengths.median), "
    text += "99 of 100 up to \(lengths.at99); no padding"
    if lengths.paddingElsewhere >= 0.005 {
      text += " (batches filled up to their longest: \(Formatting.fixed(100 * lengths.paddingElsewhere, 0))%)"
    }
    StandardError.write(text + "\n")
    if data.count >= Self.leastForHistogram { StandardError.write(histogram(lengths)) }
    warn()
  }

  /// Writes what is odd about the data to standard error.
  func warn() {
    for remark in data.remarks { StandardError.write("swiftlet: warning: \(remark.description)\n") }
  }

  /// Fewer examples than this are no distribution.
  private static let leastForHistogram = 32

  /// The lengths as bars.
  private func histogram(_ lengths: LengthStatistics) -> String {
    let buckets = lengths.buckets
    guard let most = buckets.map(\.count).max(), most > 0 else { return "" }
    return buckets.map { bucket in
      let bound = bucket.upTo.description
      let bar = String(repeating: "█", count: (40 * bucket.count + most - 1) / most)
      let space = String(repeating: " ", count: max(0, 8 - bound.count))
      return "swiftlet: data \(space)≤ \(bound) \(bar) \(bucket.count)\n"
    }.joined()
  }
}
