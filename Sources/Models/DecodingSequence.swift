import Tensors

/// A sequence that is being written: its cache, how its tokens are chosen, and the last of them, which the cache does not hold
/// yet.
public final class DecodingSequence {
  /// What was read and written before ``last``.
  public let cache: KeyValueCache
  /// The token chosen last; nil where the model's output was not a number.
  public internal(set) var last: Int32?
  let options: SamplingOptions
  /// The length that the sequence may reach.
  let plannedLength: Int?
  /// Chooses where logits come to the host.
  var sampler: Sampler
  /// Draws where they do not, as the sampler does.
  private var random: RandomSource
  /// Where the tokens that it has seen are noted on the device; its to give back.
  var slot: DecodingSlots.Slot?

  init(_ cache: KeyValueCache, _ options: SamplingOptions, seen: [Int32], plannedLength: Int?) {
    self.cache = cache
    self.options = options
    self.plannedLength = plannedLength
    sampler = Sampler(options, seen: seen)
    random = RandomSource(seed: options.seed)
  }

  /// Forgets what was read after the first `length` tokens, and goes on from there with `last`.
  package func rewind(to length: Int, last: Int32?) {
    cache.truncate(to: length)
    self.last = last
  }

  /// What the device needs to know for the next token.
  func draw() -> TokenDraw {
    let draws = options.temperature > 0
    return TokenDraw(
      sharpness: draws ? Float(min(1 / options.temperature, 1e30)) : 0, topP: Float(options.topP),
      minP: Float(options.minP), repetitionPenalty: Float(options.repetitionPenalty),
      topK: Int32(clamping: options.topK), slot: Int32(slot?.index ?? 0), point: draws ? random.uniform() : 0)
  }
}

/// Rows of bits on the device that note which tokens a sequence has seen, for those whose repetition counts.
final class DecodingSlots {
  /// A row, given back when the last who knows it goes.
  final class Slot {
    let index: Int
    private let slots: DecodingSlots
    init(_ index: Int, of slots: DecodingSlots) {
      self.index = index
      self.slots = slots
    }
    deinit { slots.free.append(index) }
  }

  /// A bit for each token, in bytes `[slots, words · 4]`.
  let bits: Tensor
  private let device: any Device
  private var free: [Int]

  /// Without `count`, a row that nobody reads.
  init(count: Int, vocabulary: Int, on device: any Device) throws {
    let bytes = count == 0 ? 4 : (vocabulary + 31) / 32 * 4
    bits = Tensor(
      try device.allocate(byteCount: max(count, 1) * bytes), rows: max(count, 1), columns: bytes, dtype: .uint8)
    self.device = device
    free = Array((0..<count).reversed())
  }

  /// A row where `tokens` are noted.
  func take(_ tokens: [Int32]) throws -> Slot {
    guard let index = free.popLast() else { throw ModelError("more sequences were begun than a batch holds") }
    let slot = Slot(index, of: self)
    var row = [UInt8](repeating: 0, count: bits.columns)
    for token in tokens where token >= 0 && Int(token) / 8 < row.count { row[Int(token) / 8] |= 1 << UInt8(token % 8) }
    try row.withUnsafeBytes { try device.upload($0, to: bits.rows(index..<index + 1)) }
    return slot
  }
}
