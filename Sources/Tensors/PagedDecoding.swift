/// What a device with memory of its own does for decoding: caches in pages, tokens chosen where the logits are, and steps that
/// are recorded once and run again.
///
/// Operations that may be recorded read what changes from step to step (tokens, positions, pages) from the device's memory.
public protocol PagedDecoding: AnyObject {
  /// Memory of the host and of the device that is copied to and fro as one.
  func makeExchange(byteCount: Int) throws -> any HostExchange
  /// Row `tokens[i]` (int32 `[1, rows]`) of `table` becomes row i of `x`.
  func embed(_ tokens: Tensor, _ table: any FrozenMatrix, into x: Tensor) throws
  /// Projections of what RMSNorm makes of `x`, fp32 `[rows, hidden]`, with γ `[1, hidden]`, in one piece, and silu(gate) · up in
  /// `activation` where they are gate and up; false, and nothing done, where the norm is better made first.
  func linear(
    normOf x: Tensor, _ gamma: Tensor, epsilon: Float, _ projections: [Projection], into outputs: [Tensor],
    lowRank: [Tensor?], activation: Tensor?
  ) throws -> Bool
  /// Keys and values of tokens from `begin` on, compute `[count, keyValueWidth]`, to their pages.
  func store(_ k: Tensor, _ v: Tensor, from begin: Int, in layer: CacheLayer, pages: Tensor) throws
  /// Attention of queries (compute `[count, heads · d]`) whose keys are the last of `begin + count` in the pages.
  func attention(
    _ q: Tensor, after begin: Int, in layer: CacheLayer, pages: Tensor, _ shape: AttentionShape, into output: Tensor)
    throws
  /// Attention of one new token of each row, whose projections are given as they came, over its cache, to which its key and
  /// value are added.
  func attention(
    _ token: TokenProjections, _ rows: DecodingRows, in layer: CacheLayer, _ shape: AttentionShape, splits: Int,
    into output: Tensor) throws
  /// Into how many parts keys of up to `length` tokens are best divided.
  func attentionSplits(length: Int, rows: Int, _ shape: AttentionShape) -> Int
  /// Chooses a token of each row of `logits` (fp32 `[rows, vocabulary]`, changed where repetition counts) as `draws` say
  /// (``TokenDraw`` `[1, rows]` in bytes); `seen`: a bit for each token, in bytes, a row for each slot; `tokens`: int32
  /// `[1, rows]`, -1 where no logit is a number.
  func sample(_ logits: Tensor, draws: Tensor, seen: Tensor, into tokens: Tensor) throws
  /// Whether steps should be recorded.
  var recordsSteps: Bool { get }
  /// Records what `work` asks for, which is not done meanwhile.
  func record(_ work: () throws -> Void) throws -> any RecordedWork
  /// Changes whenever memory that recorded work may know by its address has moved.
  var moves: Int { get }
  /// Whether a timer watches: recorded work would hide its parts.
  var isTimed: Bool { get }
}

extension Device {
  /// A device in the host's memory keeps a cache in one piece, and has its logits at hand.
  public var pagedDecoding: (any PagedDecoding)? { nil }
}

/// Tokens of a page.
public enum CachePage {
  /// As many as the tiles of attention have keys.
  public static let tokens = 64
}

/// Where a layer's keys and values lie in every page: elements from its beginning, and from one token to the next.
public struct CacheLayer: Sendable {
  /// The first token's key.
  public var keys: Int
  /// The first token's value.
  public var values: Int
  /// Elements of a token.
  public var width: Int

  /// Layer `index` of a page that holds, layer by layer, keys and then values.
  public init(_ index: Int, width: Int) {
    keys = 2 * index * CachePage.tokens * width
    values = keys + CachePage.tokens * width
    self.width = width
  }
}

/// Queries, keys and values of one token of each row as the projections gave them, and what makes them ready.
public struct TokenProjections {
  /// Compute `[rows, heads · d]`, `[rows, keyValueHeads · d]` twice.
  public var q, k, v: Tensor
  /// Biases, fp32 `[1, columns]`; nil where there are none.
  public var biasQ, biasK, biasV: Tensor?
  /// γ of the heads' norms, fp32 `[1, d]`; nil where there are none.
  public var gammaQ, gammaK: Tensor?
  /// Added to the mean square.
  public var epsilon: Float
  /// Angles by position, fp32 `[positions, rotary/2]`; nil where nothing turns.
  public var cosines, sines: Tensor?

  /// Projections from their parts.
  public init(
    q: Tensor, k: Tensor, v: Tensor, biasQ: Tensor?, biasK: Tensor?, biasV: Tensor?, gammaQ: Tensor?, gammaK: Tensor?,
    epsilon: Float, cosines: Tensor?, sines: Tensor?
  ) {
    (self.q, self.k, self.v) = (q, k, v)
    (self.biasQ, self.biasK, self.biasV) = (biasQ, biasK, biasV)
    (self.gammaQ, self.gammaK) = (gammaQ, gammaK)
    self.epsilon = epsilon
    (self.cosines, self.sines) = (cosines, sines)
  }
}

/// Where the sequences of a step stand.
public struct DecodingRows {
  /// How many tokens came before, int32 `[1, rows]`; negative where a row has no sequence.
  public var positions: Tensor
  /// The addresses of each row's list of page addresses: eight bytes each.
  public var pageLists: Tensor

  /// Rows from their parts.
  public init(positions: Tensor, pageLists: Tensor) {
    self.positions = positions
    self.pageLists = pageLists
  }
}

/// How a row's token is chosen, as it lies in memory.
public struct TokenDraw: Sendable {
  /// Logits are multiplied by it before the softmax; 0: the likeliest token.
  public var sharpness: Float
  /// See the sampler's options.
  public var topP, minP, repetitionPenalty: Float
  /// 0: all.
  public var topK: Int32
  /// The row of `seen`; negative where nothing is chosen.
  public var slot: Int32
  /// Where in 0 ..< 1 the draw falls.
  public var point: Double

  /// A draw from its numbers.
  public init(
    sharpness: Float, topP: Float, minP: Float, repetitionPenalty: Float, topK: Int32, slot: Int32, point: Double
  ) {
    (self.sharpness, self.topP, self.minP) = (sharpness, topP, minP)
    self.repetitionPenalty = repetitionPenalty
    (self.topK, self.slot, self.point) = (topK, slot, point)
  }
}

/// Pinned memory of the host and its counterpart on the device.
public protocol HostExchange: AnyObject {
  /// The host's side; to be written or read only while no copy is under way.
  var host: UnsafeMutableRawPointer { get }
  /// The device's side, bytes `[1, byteCount]`.
  var tensor: Tensor { get }
  /// Copies bytes to the device, in the order of the calls.
  func send(_ range: Range<Int>) throws
  /// Copies bytes to the host; they are there when the device is synchronized.
  func receive(_ range: Range<Int>) throws
}

/// Work that can be run again.
public protocol RecordedWork: AnyObject {
  /// Asks for all of it at once.
  func run() throws
}
