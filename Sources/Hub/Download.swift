import Glibc
import ModelFiles
import Synchronization

/// What a download has done so far.
public struct HubProgress: Sendable, Equatable {
  /// Bytes that are here, of this run and of earlier ones.
  public var bytesDone: Int
  /// Bytes of all wanted files that were not in the cache when it began.
  public var bytesTotal: Int
  /// Files that are still to come.
  public var filesLeft: Int
}

/// Fetches parts of files over several connections while one thread hashes what has arrived in order.
final class Download: Sendable {
  private let repository: RepositoryName
  private let commit: String
  private let environment: HubEnvironment
  private let options: HubOptions
  private let files: [PartialFile]
  private let userCancelled: @Sendable () -> Bool
  private let received: Atomic<Int>
  private let state: Mutex<State>

  private struct State {
    var jobs: [(file: Int, part: Int)] = []
    var workers = 0
    var filesLeft = 0
    var error: (any Error)?
  }

  init(
    _ files: [PartialFile], of repository: RepositoryName, commit: String, environment: HubEnvironment,
    options: HubOptions, isCancelled: @escaping @Sendable () -> Bool
  ) {
    self.files = files
    self.repository = repository
    self.commit = commit
    self.environment = environment
    self.options = options
    userCancelled = isCancelled
    received = Atomic(files.map(\.bytesDone).reduce(0, +))
    var state = State()
    // Large files first: the last part to arrive is then a short one. Taken from the end.
    let order = files.indices.sorted { files[$0].file.size > files[$1].file.size }
    for file in order.reversed() { state.jobs += files[file].missing.reversed().map { (file, $0) } }
    state.filesLeft = files.count
    self.state = Mutex(state)
  }

  /// Runs to the end; every file is then published.
  func run(onProgress: (HubProgress) -> Void) throws {
    let count = state.withLock { state in
      state.workers = max(1, min(options.connections, state.jobs.count))
      return state.workers
    }
    var threads: [pthread_t] = []
    for _ in 0..<count {
      if let thread = startThread({ [self] in work() }) {
        threads.append(thread)
      } else {
        state.withLock { $0.workers -= 1 }
      }
    }
    let hasher = startThread { [self] in hash() }
    if threads.isEmpty || hasher == nil { fail(HubError("this system refuses to start a thread")) }
    let total = files.map(\.file.size).reduce(0, +)
    while true {
      let (left, error) = state.withLock { ($0.filesLeft, $0.error) }
      onProgress(HubProgress(bytesDone: received.load(ordering: .relaxed), bytesTotal: total, filesLeft: left))
      if left == 0 || error != nil { break }
      if userCancelled() { fail(HubError.cancelled) }
      usleep(50_000)
    }
    for thread in threads { pthread_join(thread, nil) }
    if let hasher { pthread_join(hasher, nil) }
    if let error = state.withLock({ $0.error }) { throw error }
  }

  private var isOver: Bool { state.withLock { $0.error != nil } }

  private func fail(_ error: any Error) { state.withLock { if $0.error == nil { $0.error = error } } }

  // MARK: Fetching

  private func work() {
    defer { state.withLock { $0.workers -= 1 } }
    do {
      let requester = try HubRequester(environment: environment, options: options) { [self] in isOver || userCancelled()
      }
      while let job = state.withLock({ $0.error == nil ? $0.jobs.popLast() : nil }) {
        try fetch(files[job.file], job.part, requester)
      }
    } catch { fail(error) }
  }

  /// Fetches one part, however often the connection breaks.
  private func fetch(_ file: PartialFile, _ part: Int, _ requester: HubRequester) throws {
    if file.isSerial || file.isDone(part) { return }
    let name = "\(repository.id)/\(file.file.path)"
    let address =
      "\(environment.endpoint)/\(repository.id)/resolve/\(commit)/\(percentEncoded(file.file.path, keepingSlashes: true))"
    let range = file.range(of: part)
    let stream = PartStream(file, part: part, name: name)
    var attempt = 0
    while true {
      let before = stream.progress
      var location: String?
      stream.begin()
      let answer = try requester.get(file.location ?? address, range: stream.wanted, location: &location) {
        [self] bytes, answer in
        received.add(stream.take(bytes, answer), ordering: .relaxed)
        return stream.wantsMore
      }
      if let error = stream.error { throw error }
      if stream.isDone || stream.isSomebodyElses {
        file.location = location
        return
      }
      if isOver || userCancelled() { throw HubError.cancelled }
      if (400..<500).contains(answer.status), let location,
        !HubRequester.isSameOrigin(location, environment.endpoint)
      {
        // A store's signed address lives for minutes: ask the hub for a new one.
        file.location = nil
      } else if let refusal = requester.refusal(answer, repository, file: file.file.path) {
        throw refusal
      }
      attempt = stream.progress > before ? 1 : attempt + 1
      if attempt >= options.attempts {
        if answer.isComplete, (200..<300).contains(answer.status) {
          throw HubError("\(name): the server sends \(stream.progress) of \(range.count) bytes and calls that all")
        }
        throw HubRequester.unreachable(name, answer, HubRequester.host(location ?? address))
      }
      try requester.wait(beforeAttempt: attempt, answer)
    }
  }

  // MARK: Hashing

  /// Follows each file's parts in order, as they arrive, and publishes what is whole and right.
  private func hash() {
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 64)
    defer { buffer.deallocate() }
    var open = files.indices.map { (file: $0, part: 0, hasher: ContentHasher(files[$0].file)) }
    do {
      while !open.isEmpty {
        var moved = false
        for index in open.indices.reversed() {
          let file = files[open[index].file]
          while open[index].part < file.partCount, file.isDone(open[index].part) {
            if isOver { return }
            var hasher = open[index].hasher
            try file.read(open[index].part, buffer: buffer) { hasher.update($0) }
            open[index].hasher = hasher
            open[index].part += 1
            moved = true
          }
          if open[index].part == file.partCount {
            try finish(file, &open[index].hasher)
            open.remove(at: index)
          }
        }
        if isOver { return }
        if !moved { usleep(5_000) }
      }
    } catch { fail(error) }
  }

  private func finish(_ file: PartialFile, _ hasher: inout ContentHasher) throws {
    guard hasher.matches() else {
      file.discard()
      throw HubError(
        "\(repository.id)/\(file.file.path): what arrived does not have the hash that the hub names; nothing of it was "
          + "kept, run the same command again")
    }
    try file.publish()
    state.withLock { $0.filesLeft -= 1 }
  }
}
