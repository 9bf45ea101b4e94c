// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC165} from "@openzeppelin/contracts/utils/introspection/IERC165.sol";

/// @title Boot authorisation
/// @notice Answers whether a measured guest may run. dstack's key management service asks it before it releases
/// keys; Postern's gateway asks it before it routes.
interface IAppAuth is IERC165 {
    /// @notice What a verified attestation says about one guest.
    struct AppBootInfo {
        /// @notice The application's id, which is the address of its own authorisation contract.
        address appId;
        /// @notice SHA-256 of the raw compose file.
        bytes32 composeHash;
        /// @notice The guest's id, distinct among the instances of one application.
        address instanceId;
        /// @notice The id of the machine that the guest runs on.
        bytes32 deviceId;
        /// @notice Digest over all measurement registers.
        bytes32 mrAggregated;
        /// @notice Digest over the registers that describe the system without the application.
        bytes32 mrSystem;
        /// @notice Hash of the guest operating system image.
        bytes32 osImageHash;
        /// @notice The platform's standing as the quote's verifier names it; "UpToDate" when nothing is amiss.
        string tcbStatus;
        /// @notice The vendor's advisories that apply to the platform.
        string[] advisoryIds;
    }

    /// @notice Says whether the described guest may run.
    /// @param bootInfo What the guest's attestation says.
    /// @return isAllowed True only if every rule is met.
    /// @return reason Why not, in one sentence; empty when allowed.
    function isAppAllowed(AppBootInfo calldata bootInfo) external view returns (bool isAllowed, string memory reason);
}
