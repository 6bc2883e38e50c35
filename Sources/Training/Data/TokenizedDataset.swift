import JSONValues
import Models
import Tokenization

/// The examples of a dataset in tokens, with which of them are trained; ready for batches.
///
/// All tokens lie in one array: an example costs 5 bytes per token and 8 beside them.
public struct TokenizedDataset: Sendable {
  /// How samples become examples.
  public struct Options: Sendable, Equatable {
    /// Tokens of an example at most; the rest of a longer sample is cut off, a text file is cut into windows.
    public var maxSequenceLength: Int
    /// Which tokens the loss counts.
    public var trainOn: TrainingConfiguration.TrainOn
    /// Whether a sample longer than the limit is an error.
    public var strict: Bool
    /// Threads that tokenize.
    public var threads: Int

    /// Options with the defaults of a run.
    public init(
      maxSequenceLength: Int = 2048, trainOn: TrainingConfiguration.TrainOn = .responses, strict: Bool = false,
      threads: Int = 1
    ) {
      self.maxSequenceLength = max(2, maxSequenceLength)
      self.trainOn = trainOn
      self.strict = strict
      self.threads = max(1, threads)
    }
  }

  /// What happened to the samples.
  public struct Counts: Sendable, Equatable {
    /// Records read.
    public var samples = 0
    /// Samples of which something was cut off.
    public var truncated = 0
    /// Samples left out because the cut took every trained token.
    public var cutBeforeResponse = 0
    /// Samples left out because they have no trained token, however long the limit.
    public var withoutResponse = 0
    /// Tokens of the examples.
    public var tokens = 0
    /// Tokens that the loss counts.
    public var trainedTokens = 0
    /// Tokens of the longest example.
    public var longest = 0

    /// Samples left out.
    public var dropped: Int { cutBeforeResponse + withoutResponse }
  }

  /// What happened to the samples.
  public private(set) var counts = Counts()
  /// The options that the examples were made with.
  public let options: Options
  private var ids: [Int32] = []
  private var isTrained: [Bool] = []
  private var starts: [Int] = [0]

  /// Tokenizes a dataset; an error names the file and the line.
  ///
  /// A dataset that leaves no example with a trained token is an error.
  init(_ dataset: Dataset, encoder: some ExampleEncoder, options: Options) throws {
    self.options = options
    var results: [EncodedSample]
    let chunk = 64 * options.threads
    for first in stride(from: 0, to: dataset.count, by: chunk) {
      results = try parallelMap(first..<min(first + chunk, dataset.count), threads: options.threads) { index in
        do {
          return try encoder.encode(dataset.sample(index), trainOn: options.trainOn)
        } catch let error as DatasetError {
          throw error
        } catch {
          let (path, line) = dataset.location(ofSample: index)
          throw DatasetError(path: path, line: line, (error as? FormatProblem)?.message ?? "\(error)")
        }
      }
      for (index, sample) in results.enumerated() {
        if options.strict, !sample.isDocument, sample.ids.count > options.maxSequenceLength {
          let (path, line) = dataset.location(ofSample: first + index)
          throw DatasetError(
            path: path, line: line,
            "the sample has \(sample.ids.count) tokens, the limit (--max-seq-length) is \(options.maxSequenceLength)"
          )
        }
        add(sample)
      }
    }
    if count == 0 { throw DatasetError(path: dataset.sources[0].path, nothingLeft) }
  }

  /// Number of examples.
  public var count: Int { starts.count - 1 }

  /// Tokens of each example.
  public var lengths: [Int] { (0..<count).map { starts[$0 + 1] - starts[$0] } }

  /// The tokens of an example.
  public func tokens(ofExample index: Int) -> ArraySlice<Int32> { ids[starts[index]..<starts[index + 1]] }

  /// Which tokens of an example are trained, one per token; the first never counts, nothing predicts it.
  public func isTrained(inExample index: Int) -> ArraySlice<Bool> { isTrained[starts[index]..<starts[index + 1]] }

  /// Lays examples end to end.
  public func batch(of examples: some Sequence<Int>) -> PackedBatch {
    var batch = PackedBatch()
    for index in examples { batch.append(tokens(ofExample: index), isTrained: isTrained(inExample: index)) }
    return batch
  }

  /// A checksum over every token and mask, by which a resumed run knows its data again.
  public var fingerprint: String {
    var checksum = CRC32()
    ids.withUnsafeBytes { checksum.update($0) }
    isTrained.withUnsafeBytes { checksum.update($0) }
    starts.withUnsafeBytes { checksum.update($0) }
    return "\(count) examples, \(ids.count) tokens, \(checksum.hexadecimal)"
  }

  /// One line for people: how many examples and tokens, and what was cut or left out.
  public var description: String {
    var parts = ["\(count) example\(count == 1 ? "" : "s"), \(counts.tokens) tokens, \(counts.trainedTokens) trained"]
    if counts.truncated > 0 { parts.append("\(counts.truncated) cut to \(options.maxSequenceLength) tokens") }
    if counts.cutBeforeResponse > 0 {
      parts.append("\(counts.cutBeforeResponse) left out (cut before the first trained token)")
    }
    if counts.withoutResponse > 0 { parts.append("\(counts.withoutResponse) left out (nothing to train on)") }
    return parts.joined(separator: "; ")
  }

  /// How the message of a dataset begins that leaves no example with a trained token.
  public static let nothingToTrainOn = "nothing to train on"

  private var nothingLeft: String {
    if counts.cutBeforeResponse == 0 {
      let missing = options.trainOn == .responses ? "no response of the assistant" : "no second token"
      return "\(Self.nothingToTrainOn): the \(counts.samples) samples have \(missing)"
    }
    return
      "\(Self.nothingToTrainOn): \(counts.cutBeforeResponse) of \(counts.samples) samples are cut before their first "
      + "trained token; raise --max-seq-length (\(options.maxSequenceLength))"
  }

  private mutating func add(_ sample: EncodedSample) {
    let limit = options.maxSequenceLength
    counts.samples += 1
    guard sample.isTrained.dropFirst().contains(true) else {
      counts.withoutResponse += 1
      return
    }
    if sample.isDocument {
      // Windows share a token, so that every token but the first is predicted exactly once.
      for start in stride(from: 0, to: sample.ids.count - 1, by: limit - 1) {
        append(sample, start..<min(start + limit, sample.ids.count))
      }
      return
    }
    if sample.ids.count > limit {
      counts.truncated += 1
      guard sample.isTrained[1..<limit].contains(true) else {
        counts.cutBeforeResponse += 1
        return
      }
    }
    append(sample, 0..<min(limit, sample.ids.count))
  }

  private mutating func append(_ sample: EncodedSample, _ range: Range<Int>) {
    ids += sample.ids[range]
    isTrained += sample.isTrained[range]
    starts.append(ids.count)
    counts.tokens += range.count
    counts.trainedTokens += sample.isTrained[range].dropFirst().count { $0 }
    counts.longest = max(counts.longest, range.count)
  }
}
