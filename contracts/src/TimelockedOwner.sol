// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {TimelockController} from "@openzeppelin/contracts/governance/TimelockController.sol";
import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {AppAuth} from "./AppAuth.sol";
import {Governed} from "./Governed.sol";
import {IAppAuthBasicManagement} from "./IAppAuthBasicManagement.sol";
import {IAppAuthBatches} from "./IAppAuthBatches.sol";
import {IKmsAuthBatches} from "./IKmsAuthBatches.sol";
import {IKmsAuthManagement} from "./IKmsAuthManagement.sol";
import {KmsAuth} from "./KmsAuth.sol";

/// @title An owner that loosens slowly and tightens at once
/// @notice As the owner of a registry or an application, it lets everybody see a change of policy for `getMinDelay`
/// before it is in force, unless the change can only refuse more: revocations do not wait. What was tightened by
/// mistake waits like
/// any other change until it is loosened again. It is a plain OpenZeppelin timelock otherwise, so their tools work with
/// it, and owns dstack's contracts as well as ours.
/// @dev Let it own nothing else: elsewhere the functions that tighten here may mean something else.
contract TimelockedOwner is TimelockController {
    /// @notice The call may allow something, so it has to be scheduled.
    error MustBeScheduled();

    /// @notice A call was made at once.
    /// @param actor Who made it.
    /// @param target The contract that was called.
    /// @param data The call.
    event Tightened(address indexed actor, address indexed target, bytes data);

    /// @notice Creates a timelock that governs itself: its delay and roles change only through it.
    /// @param minDelay How long a change must be visible, in seconds.
    /// @param proposers Who may schedule changes. They may also cancel them and tighten.
    /// @param executors Who may apply changes whose time has come; the zero address stands for everybody.
    constructor(uint256 minDelay, address[] memory proposers, address[] memory executors)
        TimelockController(minDelay, proposers, executors, address(0))
    {}

    /// @notice Makes a call that can only refuse more, without delay. Whoever may cancel may do this.
    /// @param target The contract to call.
    /// @param data The call; see `tightens`.
    function tighten(address target, bytes calldata data) external onlyRole(CANCELLER_ROLE) {
        require(tightens(data), MustBeScheduled());
        emit Tightened(msg.sender, target, data);
        Address.functionCall(target, data);
    }

    /// @notice Accepts an ownership that is offered to this contract, without delay: it loosens nothing.
    /// @param target The contract that offers it.
    function acceptOwnership(address target) external onlyRole(PROPOSER_ROLE) {
        Ownable2Step(target).acceptOwnership();
    }

    /// @notice Whether a call can only refuse more, whatever the state of the contract that it goes to.
    /// @param data The call.
    /// @return only True for removals, deregistration, pause, an end to any device, and a demand on the platform.
    function tightens(bytes calldata data) public pure returns (bool only) {
        if (data.length < 4) return false;
        bytes4 selector = bytes4(data[:4]);
        if (selector == AppAuth.setAllowAnyDevice.selector) return _isBool(data, 0);
        if (selector == AppAuth.setRequireTcbUpToDate.selector) return _isBool(data, 1);
        return selector == Governed.pause.selector || selector == IKmsAuthManagement.deregisterApp.selector
            || selector == IAppAuthBasicManagement.removeComposeHash.selector
            || selector == IAppAuthBasicManagement.removeDevice.selector
            || selector == IAppAuthBatches.removeComposeHashes.selector
            || selector == IAppAuthBatches.removeDevices.selector || selector == KmsAuth.removeOsImageHash.selector
            || selector == IKmsAuthManagement.removeOsImageHashes.selector
            || selector == KmsAuth.removeKmsAggregatedMr.selector || selector == KmsAuth.removeKmsDevice.selector
            || selector == IKmsAuthBatches.removeKmsAggregatedMrs.selector
            || selector == IKmsAuthBatches.removeKmsDevices.selector;
    }

    /// @dev Whether a call's one argument is the word `expected`.
    function _isBool(bytes calldata data, uint256 expected) private pure returns (bool) {
        return data.length == 36 && uint256(bytes32(data[4:])) == expected;
    }
}
