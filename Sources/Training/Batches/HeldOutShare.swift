import Models

/// Which examples a share of the data holds out: a pure function of their number, the share and the seed.
struct HeldOutShare: Equatable {
  /// The examples that are trained on, in their order.
  let training: [Int]
  /// The examples that are held out, in their order.
  let heldOut: [Int]

  /// Draws `share` of `count` examples, at least one, and leaves at least one.
  init(of count: Int, share: Double, seed: UInt64) throws {
    guard count > 1 else {
      throw TrainingError("--eval-share: the data has \(count) example\(count == 1 ? "" : "s"), none can be held out")
    }
    let wanted = Int(exactly: (Double(count) * share).rounded()) ?? 0
    let held = min(max(1, wanted), count - 1)
    // A stream that no epoch has.
    var random = RandomSource(seed: seed, stream: .max)
    var order = Array(0..<count)
    random.shuffle(&order)
    heldOut = order[..<held].sorted()
    training = order[held...].sorted()
  }
}
