import JSONValues
import Models
import Tokenization

/// The examples of a dataset in tokens, with which of them are trained; ready for batches.
///
/// The tokens lie in memory while they are few, else on the disk: an example costs 8 bytes of memory. An example is one
/// document, or two where it is a pair of answers: the better one first.
public struct TokenizedDataset: Sendable {
  /// How samples become examples.
  public struct Options: Sendable, Equatable {
    /// Tokens of a document at most; a text file is cut into windows.
    public var maxSequenceLength: Int
    /// What becomes of a sample that is longer.
    public var longSamples: TrainingConfiguration.LongSamples
    /// Which tokens the loss counts.
    public var trainOn: TrainingConfiguration.TrainOn
    /// Whether the samples are pairs of a better and a worse answer.
    public var pairs: Bool
    /// Whether special tokens that samples spell become those tokens.
    public var parsesSpecialTokens = false
    /// Whether a sample longer than the limit, or an odd one, is an error.
    public var strict: Bool
    /// Threads that tokenize.
    public var threads: Int
    /// Samples read at most.
    public var sampleLimit: Int

    /// Options with the defaults of a run.
    public init(
      maxSequenceLength: Int = 2048, longSamples: TrainingConfiguration.LongSamples = .cut,
      trainOn: TrainingConfiguration.TrainOn = .responses, pairs: Bool = false, strict: Bool = false, threads: Int = 1,
      sampleLimit: Int = .max
    ) {
      self.maxSequenceLength = max(2, maxSequenceLength)
      self.longSamples = longSamples
      self.trainOn = trainOn
      self.pairs = pairs
      self.strict = strict
      self.threads = max(1, threads)
      self.sampleLimit = sampleLimit
    }
  }

  /// The examples of one file.
  public struct Source: Sendable, Equatable {
    /// Path of the file.
    public var path: String
    /// Its examples.
    public var count: Int
    /// How often an epoch sees each of them.
    public var weight: Double
  }

  /// What happened to the samples.
  public internal(set) var counts = ExampleCounts()
  /// What is odd about them, in the order in which it was found.
  public internal(set) var remarks: [DataRemark] = []
  /// The files, in the order of their examples.
  public internal(set) var sources: [Source] = []
  /// A checksum over every token and mask, by which a resumed run knows its data again.
  public internal(set) var fingerprint = ""
  /// The options that the examples were made with.
  public let options: Options
  /// Documents of an example: 2 for pairs of answers.
  public var documentsPerExample: Int { options.pairs ? 2 : 1 }
  let store: TokenStore
  let starts: [Int]

  init(
    store: TokenStore, starts: [Int], counts: ExampleCounts, remarks: [DataRemark], sources: [Source],
    fingerprint: String, options: Options
  ) {
    self.store = store
    self.starts = starts
    self.counts = counts
    self.remarks = remarks
    self.sources = sources
    self.fingerprint = fingerprint
    self.options = options
  }

  /// Number of examples.
  public var count: Int { (starts.count - 1) / documentsPerExample }

  /// Tokens of each example.
  public var lengths: [Int] {
    let documents = documentsPerExample
    return (0..<count).map { starts[($0 + 1) * documents] - starts[$0 * documents] }
  }

  /// The tokens of an example and which of them are trained; the first of a document never counts, nothing predicts it.
  public func tokens(ofExample index: Int) throws -> (ids: [Int32], isTrained: [Bool]) {
    let documents = documentsPerExample
    let words = try store.read(starts[index * documents]..<starts[(index + 1) * documents])
    return (
      words.map { Int32(bitPattern: $0 & ~TokenStore.trainedBit) }, words.map { $0 & TokenStore.trainedBit != 0 }
    )
  }

  /// Lays examples end to end; pairs as the better answer and the worse one.
  public func batch(of examples: some Sequence<Int>) throws -> PackedBatch {
    var batch = PackedBatch()
    for index in examples {
      let (ids, isTrained) = try tokens(ofExample: index)
      let first = index * documentsPerExample
      for document in first..<first + documentsPerExample {
        let range = starts[document] - starts[first]..<starts[document + 1] - starts[first]
        batch.append(ids[range], isTrained: isTrained[range])
      }
    }
    return batch
  }

  /// One line for people: how many examples and tokens, and what was cut or left out.
  public var description: String { counts.description(options) }

  /// How the message of a dataset begins that leaves no example with a trained token.
  public static let nothingToTrainOn = "nothing to train on"
}
