import CTokenization
import Synchronization

extension BytePairEncoder {
  /// Working memory for encoding words, one per thread, with the words it met before.
  final class Scratch: @unchecked Sendable {
    /// What the C loops see.
    let memory: UnsafeMutablePointer<sl_word_memory>

    /// Makes memory that remembers so many words of up to 15 bytes and of more; powers of two, 768 KiB in all.
    init(shortWords: Int = 1 << 14, mediumWords: Int = 1 << 12) {
      memory = .allocate(capacity: 1)
      memory.initialize(to: sl_word_memory())
      memory.pointee.short_words = .allocate(capacity: shortWords)
      memory.pointee.short_words.initialize(repeating: sl_short_word(), count: shortWords)
      memory.pointee.short_mask = shortWords - 1
      memory.pointee.medium_words = .allocate(capacity: mediumWords)
      memory.pointee.medium_words.initialize(repeating: sl_medium_word(), count: mediumWords)
      memory.pointee.medium_mask = mediumWords - 1
      reserve(Self.standard)
    }

    deinit {
      release()
      memory.pointee.short_words.deallocate()
      memory.pointee.medium_words.deallocate()
      memory.deallocate()
    }

    /// Words of up to so many bytes need no more room than there is from the start.
    private static let standard = 1024

    /// Makes room for a word of so many bytes.
    func reserve(_ length: Int) {
      let capacity = max(length + Int(SL_ID_SLACK), memory.pointee.capacity)
      let symbols = max(length, memory.pointee.symbol_capacity)
      release()
      memory.pointee.ids = .allocate(capacity: capacity)
      memory.pointee.lengths = .allocate(capacity: capacity)
      memory.pointee.capacity = capacity
      memory.pointee.symbols = .allocate(capacity: symbols)
      memory.pointee.heap = .allocate(capacity: symbols * 2)
      memory.pointee.symbol_capacity = symbols
    }

    /// Whether a long word made this grow beyond what is worth keeping.
    var isLarge: Bool { memory.pointee.symbol_capacity > 64 * Self.standard }

    private func release() {
      memory.pointee.ids?.deallocate()
      memory.pointee.lengths?.deallocate()
      memory.pointee.symbols?.deallocate()
      memory.pointee.heap?.deallocate()
    }
  }
}

/// The working memories of one tokenizer: each call takes one, or a new one, and gives it back.
final class ScratchPool: Sendable {
  private let free = Mutex<[BytePairEncoder.Scratch]>([])

  /// Memory is kept for so many calls at the same time.
  private static let most = 64

  func take() -> BytePairEncoder.Scratch { free.withLock { $0.popLast() } ?? BytePairEncoder.Scratch() }

  func giveBack(_ scratch: BytePairEncoder.Scratch) {
    guard !scratch.isLarge else { return }
    free.withLock { if $0.count < Self.most { $0.append(scratch) } }
  }

  /// Forgets every word; only to measure from the same state.
  func removeAll() { free.withLock { $0.removeAll() } }
}
