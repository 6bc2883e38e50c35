/// Xoshiro256++, the generator behind every random choice of a run.
///
/// The sequence depends on nothing but `seed` and `stream`: not on the platform, nor on the version of the standard
/// library, whose own `shuffle` makes no such promise. A stream is an independent sequence of the same seed (the order of
/// epoch 3 is stream 3), so that any point of a run is reached without replaying what came before.
/// Source: Blackman and Vigna, "Scrambled linear pseudorandom number generators" (2021).
public struct RandomSource: RandomNumberGenerator, Sendable, Equatable {
  private var s0, s1, s2, s3: UInt64

  /// Starts stream `stream` of `seed`.
  public init(seed: UInt64, stream: UInt64 = 0) {
    var streams = SplitMix64(state: stream)
    var mixer = SplitMix64(state: seed ^ streams.next())
    s0 = mixer.next()
    s1 = mixer.next()
    s2 = mixer.next()
    s3 = mixer.next()
  }

  /// The four words that continue the sequence from here.
  public var state: [UInt64] { [s0, s1, s2, s3] }

  /// Continues from a saved `state`; `nil` unless it is four words, not all zero.
  public init?(state: [UInt64]) {
    guard state.count == 4, state.contains(where: { $0 != 0 }) else { return nil }
    (s0, s1, s2, s3) = (state[0], state[1], state[2], state[3])
  }

  /// The next 64 bits.
  public mutating func next() -> UInt64 {
    let result = rotated(s0 &+ s3, by: 23) &+ s0
    let t = s1 << 17
    s2 ^= s0
    s3 ^= s1
    s1 ^= s2
    s0 ^= s3
    s2 ^= t
    s3 = rotated(s3, by: 45)
    return result
  }

  /// A number in `0..<bound`, each equally likely; 0 for a bound of 0.
  public mutating func next(below bound: Int) -> Int {
    guard bound > 1 else { return 0 }
    let bound = UInt64(bound)
    // Lemire's multiplication: the high word is the result, a low word under 2^64 mod bound would favour small ones.
    let threshold = (0 &- bound) % bound
    while true {
      let product = next().multipliedFullWidth(by: bound)
      if product.low >= threshold { return Int(product.high) }
    }
  }

  /// A number in `0..<1` with 53 random bits.
  public mutating func uniform() -> Double { Double(next() >> 11) * 0x1p-53 }

  /// Puts `items` in random order: Fisher and Yates, from the end.
  public mutating func shuffle<Element>(_ items: inout [Element]) {
    var i = items.count - 1
    while i > 0 {
      items.swapAt(i, next(below: i + 1))
      i -= 1
    }
  }
}

/// The generator that seeds the others (Steele, Lea and Flood 2014): any two states give unrelated words.
struct SplitMix64 {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}

private func rotated(_ x: UInt64, by k: UInt64) -> UInt64 { (x << k) | (x >> (64 - k)) }
